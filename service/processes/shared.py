"""Blocks of counts in a folder that all workers of one service share, in memory where the system has such a folder.

Each worker has a slot, and in it a file of fixed size for each model and each version that it has loaded. Who takes a
dead worker's place takes its files over and goes on counting in them. So no file grows, there are as many of them
however often a worker has died, and a scrape reads them all, whichever worker it comes to.

    <folder>/lock                        held while blocks are made or removed
    <folder>/<slot>/life                 a worker's process id and number of starts; locked as long as it lives
    <folder>/<slot>/model..<name>        what has happened to a model
    <folder>/<slot>/version.<sha256>.<name>
    <folder>/<sha256>.json               the version's manifest, for workers that have not loaded it
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from service.counting.ledger import KEPT, STATE, Block
from service.counting.store import HEAD, Found, Key, Kind, Life

_LIFE = np.dtype([("pid", "<i8"), ("starts", "<i8")])
_OPEN = os.O_RDWR | os.O_CREAT


class SharedFolder:
    """The blocks of the worker in one slot, and a view of those of all others."""

    shared = True

    def __init__(self, folder: Path, slot: int) -> None:
        self._folder = self.folder = folder
        self.run = str(folder)
        self._slot = folder / str(slot)
        self._supervisor = os.getppid()
        self._slot.mkdir(exist_ok=True)
        self._views: dict[str, tuple[int, memoryview]] = {}
        self._lives: dict[str, int] = {}
        self._lock = os.open(folder / "lock", _OPEN, 0o600)
        self._life = self._begin()

    def open(self, key: Key, layout: np.dtype[np.void], digest: int, text: bytes = b"") -> Block:
        path = self._slot / _file_name(key)
        with self._locked():
            if text:
                _write_whole(self._text_path(key), text)
            block = _open_block(path, key, layout, digest)
            if block is None:
                _create(path, layout.itemsize, digest)
                block = _open_block(path, key, layout, digest)
            assert block is not None  # noqa: S101  # for the type checker: it has just been made so
            block["state"][0, STATE] = max(KEPT, int(block["state"][0, STATE]))
            return block

    def retire(self, key: Key) -> None:
        with self._locked():
            paths = list(self._folder.glob(f"*/{_file_name(key)}"))
            for path in paths:
                if path.parent == self._slot:
                    Found(key, _mapped(path, mmap.ACCESS_WRITE), alive=True).state[STATE] = 0
            if not any(Found(key, _mapped(path, mmap.ACCESS_READ), alive=True).state[STATE] for path in paths):
                for path in (*paths, self._text_path(key)):
                    path.unlink(missing_ok=True)

    def own(self) -> list[Key]:
        return [key for path in self._slot.iterdir() if (key := _key(path.name)) is not None]

    def found(self) -> Iterator[Found]:
        views = {}
        for slot in self._slots():
            alive = self._lives_in(slot)
            for entry in os.scandir(slot):
                key = _key(entry.name)
                if key is not None and (view := self._view(entry)) is not None:
                    views[entry.path] = view
                    yield Found(key, view[1], alive)
        self._views = views

    def text(self, key: Key) -> bytes:
        return self._text_path(key).read_bytes()

    def life(self) -> Life:
        slots = self._slots()
        facts = np.concatenate([_life(os.pread(self._life_of(slot), _LIFE.itemsize, 0)) for slot in slots])
        restarts = int(np.maximum(facts["starts"] - 1, 0).sum())
        return Life(sum(map(self._lives_in, slots)), restarts, tuple(facts["pid"].tolist()), self._supervisor)

    def _begin(self) -> int:
        """Say that this process lives: the system forgets the lock when it does not any more."""
        life = os.open(self._slot / "life", _OPEN, 0o600)
        fcntl.flock(life, fcntl.LOCK_EX)  # others hold it for a moment, to see whether somebody lives
        starts = int(_life(os.pread(life, _LIFE.itemsize, 0))["starts"][0])
        os.pwrite(life, np.array([(os.getpid(), starts + 1)], _LIFE).tobytes(), 0)
        return life

    def _slots(self) -> list[str]:
        return [entry.path for entry in os.scandir(self._folder) if entry.is_dir()]

    def _life_of(self, slot: str) -> int:
        if slot not in self._lives:
            self._lives[slot] = os.open(f"{slot}/life", _OPEN, 0o600)
        return self._lives[slot]

    def _lives_in(self, slot: str) -> bool:
        life = self._life_of(slot)
        try:
            fcntl.flock(life, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(life, fcntl.LOCK_UN)
        return False

    def _view(self, entry: "os.DirEntry[str]") -> tuple[int, memoryview] | None:
        """None when it has been removed meanwhile, or is none of ours."""
        view = self._views.get(entry.path)
        if view is not None and view[0] == entry.inode():
            return view
        try:
            memory = _mapped(Path(entry.path), mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # the second of an empty file
            return None
        return (entry.inode(), memory) if memory.nbytes >= HEAD.itemsize else None

    def _text_path(self, key: Key) -> Path:
        return self._folder / f"{key.sha256}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _file_name(key: Key) -> str:
    return f"{key.kind}.{key.sha256}.{key.model}"


def _key(file_name: str) -> Key | None:
    """None of a file that is no block. A model's name may have dots."""
    kind, *rest = file_name.split(".", 2)
    return Key(cast(Kind, kind), rest[1], rest[0]) if kind in ("model", "version") and len(rest) == 2 else None


def _open_block(path: Path, key: Key, layout: np.dtype[np.void], digest: int) -> Block | None:
    if not path.exists() or path.stat().st_size != layout.itemsize:
        return None
    return Found(key, _mapped(path, mmap.ACCESS_WRITE), alive=True).block(layout, digest)


def _mapped(path: Path, access: int) -> memoryview:
    with path.open("r+b" if access == mmap.ACCESS_WRITE else "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=access))


def _life(words: bytes) -> NDArray[np.void]:
    """Of zeros, where nobody has lived yet."""
    return np.frombuffer(words.ljust(_LIFE.itemsize, b"\0"), _LIFE)


def _create(path: Path, size: int, digest: int) -> None:
    """A block of zeros with the name of its layout. All of it is written now: a full disk must not show later, when a
    process writes to memory that it cannot have."""
    beside = path.with_name(f".{path.name}")
    try:
        beside.write_bytes(digest.to_bytes(8, "little").ljust(size, b"\0"))
    except OSError:
        beside.unlink()
        raise
    beside.rename(path)


def _write_whole(path: Path, text: bytes) -> None:
    if not path.exists():
        beside = path.with_name(f".{path.name}")
        beside.write_bytes(text)
        beside.rename(path)
