"""The bundle on disk: write it whole, list, read and verify it.

    models/<name>/<version>/manifest.json, saved_model.pb, variables/..., variants/...

Writer and reader stand side by side so that the layout cannot drift from itself. A version folder appears by one
rename, after everything in it has reached the disk: a reader sees all of it or nothing. Whatever is unfinished has a
name that starts with a dot and is no version.
"""

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from contract.errors import BundleError
from contract.manifest import FileFacts, Manifest, Variant, is_name

MANIFEST = "manifest.json"
SAVED_MODEL = "saved_model.pb"
VARIANTS = "variants"
STAGING_PREFIX = ".staging-"
# An unfinished folder is locked by who builds it, but for a moment at its beginning.
ABANDONED_AFTER_SECONDS = 60.0

# A manifest holds vocabularies and golden pictures, and still is far smaller. It is read before anything is verified.
MOST_MANIFEST_BYTES = 32 * 2**20

# Lists, objects and the keys of objects in a manifest: each that is wrong costs 10 microseconds, and more memory.
MOST_MANIFEST_PARTS = 500_000
MOST_PROBLEMS = 1000


@dataclass(frozen=True)
class Bundle:
    """A version folder and its manifest. Reading it proves nothing yet: see `verify`."""

    path: Path
    manifest: Manifest

    def variant_path(self, name: str) -> Path:
        return self.path / self.manifest.variant(name).path


def versions(models: Path, name: str) -> list[int]:
    """The versions of a model, ascending. A folder is a version when its name is a number and it has a manifest."""
    if not is_name(name) or not (models / name).is_dir():
        return []
    folders = [entry for entry in (models / name).iterdir() if entry.name.isdecimal()]
    return sorted(int(folder.name) for folder in folders if (folder / MANIFEST).is_file())


def names(models: Path) -> list[str]:
    """The models in the folder: those with a version or a routing."""
    if not models.is_dir():
        return []
    folders = [entry.name for entry in models.iterdir() if is_name(entry.name) and entry.is_dir()]
    return sorted(name for name in folders if versions(models, name))


def read(path: Path) -> Bundle:
    """Read a version folder's manifest.

    Raises BundleError when it is missing, is not one, or belongs to another place.
    """
    return Bundle(path, _parse(path, _read_manifest(path)))


def _read_manifest(path: Path) -> bytes:
    """What is in the file, which must be one: a pipe would be read for ever."""
    file = path / MANIFEST
    try:
        facts = file.lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise BundleError(path, [f"{MANIFEST}: is no file"])
        if facts.st_size > MOST_MANIFEST_BYTES:
            raise BundleError(path, [f"{MANIFEST}: has {facts.st_size} bytes, at most {MOST_MANIFEST_BYTES} are read"])
        with file.open("rb") as opened:
            return opened.read(MOST_MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(path, [f"{MANIFEST}: {error.strerror}"]) from error


def _parse(path: Path, content: bytes) -> Manifest:
    try:
        parsed = from_json(content)
    except ValueError as error:
        raise BundleError(path, [f"{MANIFEST}: {error}"]) from error
    if _has_more_parts(parsed, MOST_MANIFEST_PARTS):
        raise BundleError(path, [f"{MANIFEST}: has more than {MOST_MANIFEST_PARTS} lists, objects and keys"])
    try:
        return Manifest.model_validate(parsed)
    except ValidationError as error:
        if error.error_count() > MOST_PROBLEMS:  # to look at the first is to make all of them
            raise BundleError(path, [f"{MANIFEST}: {error.error_count()} problems, it is none"]) from None
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        raise BundleError(path, [f"{MANIFEST}: {where}: {first['msg'][:300]}"]) from error


def read_version(models: Path, name: str, version: int) -> Bundle:
    """Read models/<name>/<version>. Raises BundleError, also when the manifest is another version's."""
    bundle = read(models / name / str(version))
    manifest = bundle.manifest
    if (manifest.name, manifest.version) != (name, version):
        raise BundleError(bundle.path, [f"{MANIFEST}: is of {manifest.name}/{manifest.version}"])
    return bundle


def verify(bundle: Bundle) -> None:
    """Compare every file with the manifest. Raises BundleError that names each missing, altered or stray file."""
    stated = bundle.manifest.files
    present = dict(_files(bundle.path))
    problems = [f"{name}: is missing" for name in stated if name not in present]
    problems += [f"{name}: is not in the manifest" for name in present if name not in stated]
    problems += [
        f"{variant.path}: the variant {variant.name} is not among the files"
        for variant in bundle.manifest.variants
        if _executable(variant) not in stated
    ]
    for name in stated.keys() & present.keys():
        problems += _difference(name, stated[name], present[name])
    if problems:
        raise BundleError(bundle.path, sorted(problems))


def _difference(name: str, stated: FileFacts, path: Path) -> list[str]:
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        return [f"{name}: is no file"]
    if facts.st_size != stated.size:
        return [f"{name}: has {facts.st_size} bytes, expected {stated.size}"]
    if _sha256(path) != stated.sha256:
        return [f"{name}: differs from its checksum"]
    return []


def _executable(variant: Variant) -> str:
    """The file that a runtime opens first."""
    return variant.path if variant.runtime == "litert" else (PurePosixPath(variant.path) / SAVED_MODEL).as_posix()


def _has_more_parts(parsed: object, most: int) -> bool:
    """Whether JSON has more lists, objects and keys than that, whatever is how deep in what."""
    count, waiting = 0, [parsed]
    while waiting and count <= most:
        part = waiting.pop()
        values: Iterable[Any] = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        count += 1 + (len(part) if isinstance(part, dict) else 0)
        waiting += [value for value in values if isinstance(value, dict | list)]
    return count > most


@contextmanager
def staged(models: Path, name: str) -> Iterator[Path]:
    """A folder to build a version in, beside where it will stand. Gone afterwards unless published."""
    parent = models / name
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    path = parent / f"{STAGING_PREFIX}{os.getpid()}-{time.time_ns():x}"
    path.mkdir()
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def publish(staging: Path, manifest_of: Callable[[int], Manifest]) -> Bundle:
    """Make a staged folder the next version of its model.

    `manifest_of` gets the version's number; it may still write files, whose facts are taken afterwards. Two publishers
    at once get two numbers. After a crash at any moment the version is there, whole and on the disk, or it is not
    there at all.
    """
    parent = staging.parent
    with locked(parent):
        version = _next_version(parent)
        manifest = manifest_of(version)
        files = {name: FileFacts(size=path.lstat().st_size, sha256=_sha256(path)) for name, path in _files(staging)}
        manifest = manifest.model_copy(update={"files": files})
        text = manifest.model_dump_json(indent=1).encode() + b"\n"
        if len(text) > MOST_MANIFEST_BYTES:
            raise BundleError(
                staging, [f"{MANIFEST}: would have {len(text)} bytes, at most {MOST_MANIFEST_BYTES} are read"]
            )
        _parse(staging, text)  # what is published can be read
        (staging / MANIFEST).write_bytes(text)
        _sync_tree(staging)
        path = parent / str(version)
        staging.rename(path)
        _sync(parent)
    return Bundle(path, manifest)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a model's folder for a change of its versions or routing; other processes wait. Freed if we die."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside, synced, renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    _sync(path.parent)


def _next_version(parent: Path) -> int:
    # Any folder with a number counts, sound or not: a number is never given twice.
    return max((int(entry.name) for entry in parent.iterdir() if entry.name.isdecimal()), default=0) + 1


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything but folders and the manifest, as (path inside the bundle, path); a link is not followed."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST and (path.is_symlink() or not path.is_dir()):
            yield name, path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    """Remove what killed exports left behind."""
    for path in parent.glob(f"{STAGING_PREFIX}*"):
        with suppress(FileNotFoundError):  # finished, or swept by somebody else, meanwhile
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER_SECONDS and not _is_locked(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: Path) -> bool:
    """The kernel frees a lock when the process that has it ends, however it ends."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
