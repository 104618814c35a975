"""API keys: made, written to a file as hashes, read back, found.

A key is 256 random bits, so a plain SHA-256 of it tells nothing about it and needs no salt: what a slow hash is for,
passwords that people choose, is not here. A key is looked up by its hash; what that lookup's time could tell is about
the hash of what was sent, which says nothing about the hash of anything else.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from contract.errors import HornpipeError
from service.access.rate import Bucket

Scope = Literal["predict", "feedback", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "hornpipe_"
MOST_FILE_BYTES = 4 * 2**20
MOST_KEY_BYTES = 512  # a longer one is not hashed: it is none of ours

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class KeysError(HornpipeError):
    """The file cannot be read, is no list of keys, or a change of it cannot be made. Says where and why."""


class StoredKey(BaseModel):
    """What the file says of a key. `sha256` is of the key as it is sent; `expires` is in UTC.

    `requests_per_second` is kept up on average; `burst` is how many may come at once, by default those of one second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: AwareDatetime
    expires: AwareDatetime | None = None
    requests_per_second: float | None = Field(default=None, gt=0, le=1e6)
    burst: int | None = Field(default=None, ge=1, le=10**6)

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("should be 1 to 64 letters, digits, dots, dashes, underscores or @")
        return name


class KeyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    keys: tuple[StoredKey, ...]

    @field_validator("keys")
    @classmethod
    def _differ(cls, keys: tuple[StoredKey, ...]) -> tuple[StoredKey, ...]:
        for what in ("name", "sha256"):
            values = [getattr(key, what) for key in keys]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"the same {what} twice: {', '.join(twice)}")
        return keys


class Key:
    """A key that is in force, with what is left of its rate."""

    __slots__ = ("bucket", "digest", "expires", "name", "scopes")

    def __init__(self, stored: StoredKey) -> None:
        self.name = stored.name
        self.digest = bytes.fromhex(stored.sha256)
        self.scopes = frozenset(stored.scopes)
        self.expires = stored.expires.timestamp() if stored.expires else None
        rate = stored.requests_per_second
        self.bucket = Bucket(rate, stored.burst or max(1.0, rate)) if rate is not None else None

    def allows(self, scope: Scope) -> bool:
        """An admin may do everything."""
        return scope in self.scopes or "admin" in self.scopes


class Keys:
    """The keys of a file as they are now."""

    def __init__(self, stored: KeyFile) -> None:
        self._stored = stored
        self._by_digest = {key.digest: key for key in map(Key, stored.keys)}

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, sent: bytes) -> Key | None:
        """The key that was sent, unless there is none or its time is over."""
        if len(sent) > MOST_KEY_BYTES:
            return None
        digest = hashlib.sha256(sent).digest()
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None
        return None if key.expires is not None and key.expires <= time() else key

    def renewed(self, stored: KeyFile) -> "Keys":
        """The keys of a file that has changed; a key that has not changed keeps what is left of its rate."""
        renewed = Keys(stored)
        before = {each.sha256: each for each in self._stored.keys}
        for each in stored.keys:
            if before.get(each.sha256) == each:
                digest = bytes.fromhex(each.sha256)
                renewed._by_digest[digest] = self._by_digest[digest]
        return renewed


def read(path: Path) -> KeyFile:
    """Raises KeysError that names the first thing that is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}") from error
    if len(content) > MOST_FILE_BYTES:
        raise KeysError(f"{path}: has more than {MOST_FILE_BYTES} bytes")
    try:
        return KeyFile.model_validate_json(content)
    except ValidationError as error:
        # Without what came: it may be a key that somebody wrote there by mistake.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise KeysError(f"{path}: {where}: {first['msg']}") from error


def generate() -> str:
    """A new key of 256 random bits."""
    return PREFIX + urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def add(
    path: Path,
    name: str,
    scopes: tuple[Scope, ...],
    expires: datetime | None = None,
    requests_per_second: float | None = None,
    burst: int | None = None,
) -> str:
    """Make a key, note its hash in the file, which need not be there yet, and return it: it is nowhere else.

    Raises KeysError.
    """
    key = generate()
    with _locked(path):
        stored = read(path) if path.exists() else KeyFile(keys=())
        if any(each.name == name for each in stored.keys):
            raise KeysError(f"{path}: there is a key named {name!r} already; revoke it first, or choose another name")
        try:
            new = StoredKey(
                name=name,
                sha256=sha256(key),
                scopes=scopes,
                created=datetime.now(UTC),
                expires=expires,
                requests_per_second=requests_per_second,
                burst=burst,
            )
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            raise KeysError("; ".join(problems)) from error
        _write(path, KeyFile(keys=(*stored.keys, new)))
    return key


def revoke(path: Path, name: str) -> None:
    """Take a key out of the file. Raises KeysError where there is none of that name."""
    with _locked(path):
        stored = read(path)
        left = tuple(key for key in stored.keys if key.name != name)
        if len(left) == len(stored.keys):
            names = ", ".join(key.name for key in stored.keys) or "none"
            raise KeysError(f"{path}: there is no key named {name!r}; keys: {names}")
        _write(path, KeyFile(keys=left))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two changes at once happen one after the other."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        file = lock.open("w")
    except OSError as error:
        raise KeysError(f"{lock}: {error.strerror}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, stored: KeyFile) -> None:
    """Whole or not at all, with the rights that the file had; a new one is its owner's alone."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    rights = path.stat().st_mode & 0o777 if path.exists() else 0o600
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, rights)
    with os.fdopen(descriptor, "wb") as file:
        file.write(stored.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
