"""What `hornpipe keys` does."""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.access import keys as store
from service.access.keys import KeysError, StoredKey

COLUMNS = ("NAME", "SCOPES", "CREATED", "EXPIRES", "REQUESTS/S")


def keys(options: argparse.Namespace) -> int:
    """Exit code 0; raises KeysError."""
    path = options.file or Path(os.environ.get("HORNPIPE_KEYS_FILE", ""))
    if path == Path():
        raise KeysError("say which file: --file FILE, or HORNPIPE_KEYS_FILE")
    if options.action == "list":
        print(table(store.read(path).keys))  # noqa: T201  # a command's
        return 0
    if options.name is None:
        raise KeysError(f"whose key? hornpipe keys {options.action} NAME")
    if options.action == "revoke":
        store.revoke(path, options.name)
        print(f"{options.name} is revoked; services that run take note within a second", file=sys.stderr)  # noqa: T201
        return 0
    _add(path, options)
    return 0


def _add(path: Path, options: argparse.Namespace) -> None:
    """The key alone goes to standard output, for a pipe."""
    expires = datetime.now(UTC) + timedelta(days=options.days) if options.days is not None else None
    scopes = tuple(options.scope or ("predict",))
    key = store.add(path, options.name, scopes, expires, options.rate, options.burst)
    print(key)  # noqa: T201  # a command's
    print("This is the only time that it is shown: the file has its hash alone.", file=sys.stderr)  # noqa: T201


def table(stored: tuple[StoredKey, ...]) -> str:
    """One line a key; nothing in it can be used to ask."""
    rows = [COLUMNS, *(_row(key) for key in stored)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _row(key: StoredKey) -> tuple[str, ...]:
    expires = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
    if key.expires is not None and key.expires <= datetime.now(UTC):
        expires += " (over)"
    rate = f"{key.requests_per_second:g}" if key.requests_per_second else "any"
    return (key.name, " ".join(key.scopes), f"{key.created:%Y-%m-%d %H:%M}", expires, rate)
