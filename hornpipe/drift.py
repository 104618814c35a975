"""Drift as a running service tells it, as a table for people."""

from __future__ import annotations

import argparse
from typing import Any

from hornpipe.command import Command

TIMEOUT_SECONDS = 30
COLUMNS = ("", "DRIFTED", "PSI", "ALARM ABOVE", "JS", "L-INF", "MOST CHANGED", "NOW", "TRAINING")


def drift(options: argparse.Namespace) -> int:
    answer = ask(options)
    since, until = (answer[end][:16].replace("T", " ") for end in ("since", "until"))
    print(f"{answer['model']}/{answer['version']}: {answer['rows']:,} rows from {since} to {until} UTC")
    print(f"\n{answer['verdict']}\n")
    watched = sorted(answer["inputs"] + answer["outputs"], key=lambda each: -each["psi"])
    print(_table([COLUMNS, *map(_row, watched)]))
    if answer["labels"]:
        labels = [(each["label"], _percent(each["share"]), _percent(each["baseline"])) for each in answer["labels"]]
        print("\n" + _table([("LABEL", "NOW", "TRAINING"), *labels]))
    return 0


def ask(options: argparse.Namespace) -> Any:  # noqa: ANN401  # whatever JSON has
    """The service's answer. Raises HornpipeError with what it says instead, or why nobody answers."""
    import json
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote, urlencode
    from urllib.request import Request, urlopen

    from contract.errors import HornpipeError

    given = {name: value for name in ("window", "version") if (value := getattr(options, name)) is not None}
    url = f"{options.url.rstrip('/')}/models/{quote(options.name, safe='')}/drift?{urlencode(given)}"
    if not url.startswith(("http://", "https://")):
        raise HornpipeError(f"--url: expected http:// or https://, got {options.url!r}")
    request = Request(url, headers={"x-api-key": options.key} if options.key else {})  # noqa: S310  # looked at above
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  # looked at above
            return json.load(answer)
    except HTTPError as error:
        raise HornpipeError(_said(error.read(), error.code)) from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise HornpipeError(f"nobody answers at {options.url} (hornpipe serve, or --url): {why}") from error


def _said(body: bytes, status: int) -> str:
    """The message of a Hornpipe service; of anything else the status."""
    import json

    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the answer is {status}, and not of a Hornpipe service"


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    most = max(found["bins"], key=lambda each: abs((each["share"] or 0) - each["baseline"]))
    return (
        found["name"],
        "yes" if found["drifted"] else "no",
        f"{found['psi']:.3f}",
        f"{found['threshold']:.2f}" if found["threshold"] is not None else "",
        f"{found['js']:.3f}",
        f"{found['linf']:.3f}",
        most["bin"],
        _percent(most["share"]),
        _percent(most["baseline"]),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--url", default="http://127.0.0.1:8000", help="where the service answers (%(default)s)")
    sub.add_argument("--window", choices=("1h", "24h"), default="24h", help="the last hour, or the last day")
    sub.add_argument("--version", type=int, metavar="VERSION", help="instead of the production version")
    sub.add_argument("--key", metavar="KEY", help="where the service asks for one")


COMMANDS = (
    Command(
        "drift",
        "How far what comes in and goes out is from training, by a running service.",
        "hornpipe drift flights --window 24h",
        _arguments,
        drift,
    ),
)
