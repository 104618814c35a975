"""The files of the prediction log: lines of JSON, in segments that are begun, filled, closed and, the oldest first,
removed, so that the folder never takes more than it may.

A segment is written by one process, which holds a lock on it as long as it lives and the segment is not full: a name is
when it was begun and by whom. A process that is killed leaves a segment that ends where the system had got to, perhaps
in the middle of a line; nobody writes to it any more, and readers take whole lines alone.

A line is a prediction or says what the versions in the lines after it answer:

    {"about": {"model": ..., "version": ..., "sha256": ..., "output": what the manifest says of it}}
    {"id": ..., "time": ..., "model": ..., "version": ..., "role": ..., "rows": [...], "outputs": {name: [...]}}
"""

import fcntl
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple

import orjson

log = logging.getLogger("hornpipe.predictions")

SUFFIX = ".jsonl"
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}-[0-9]+\.jsonl")
# How a writer's share of the folder is divided, and the largest of the parts, in bytes; a longer line is not written.
PARTS = 8
LARGEST_SEGMENT = 64 * 2**20
# However small they are, which they are where processes die young.
MOST_SEGMENTS = 1000
# After so long a segment is closed, so that what is old can go.
MOST_SECONDS = 3600.0
# Segments that are full and not on the disk yet; from then on lines wait for it.
MOST_UNSYNCED = 4
# When the disk is full, how long nothing is tried.
PAUSE_SECONDS = 1.0


class Line(NamedTuple):
    """A prediction, and the line that must stand somewhere before it in its segment. Both end with a newline."""

    about: bytes
    text: bytes


class Segments:
    """Those of one writer, one of `writers` that share a folder of `most_bytes`; it keeps them for `most_seconds`.

    Used by one thread, but for `sync`: another one waits for the disk, so that lines do not. No error of the disk is
    raised: what cannot be written is lost, and the log says so once.
    """

    def __init__(self, folder: Path, most_bytes: int, most_seconds: float, writers: int) -> None:
        self._folder = folder
        self._segment = min(LARGEST_SEGMENT, most_bytes // (PARTS * writers))
        self._most = most_bytes - writers * self._segment  # by what is closed; each writer may be filling one more
        self._most_seconds = most_seconds
        self._file: int | None = None
        self._path = folder
        self._size = 0
        self._began = 0.0
        self._told: set[bytes] = set()
        self._unsynced = False
        self._full: deque[int] = deque()  # files that are still to come to the disk
        self._handing = threading.Lock()  # so that no file is closed while it is handed over
        self._failed: float | None = None

    def fits(self, line: Line) -> bool:
        """Whether a line is short enough to be written at all."""
        return len(line.about) + len(line.text) <= self._segment

    def append(self, lines: Sequence[Line]) -> int:
        """Write lines that fit, in as many segments as they need; how many of them, from the first on, could be."""
        written = 0
        chunk = bytearray()
        ends: list[int] = []
        for line in lines:
            text = line.text if line.about in self._told else line.about + line.text
            if self._file is None or self._is_full(len(chunk) + len(text)):
                written += self._write(chunk, ends)
                self._end()
                chunk, ends, text = bytearray(), [], line.about + line.text
                if not self._open():
                    return written
            self._told.add(line.about)
            chunk += text
            ends.append(len(chunk))
        return written + self._write(chunk, ends)

    def sync(self) -> None:
        """See to it that what is written survives the machine; it takes as long as the disk does."""
        with self._handing:
            waiting = [self._full.popleft() for _ in range(len(self._full))]
            if self._file is not None and self._unsynced:
                waiting.append(os.dup(self._file))
            self._unsynced = False
        for file in waiting:
            try:
                os.fsync(file)
            except OSError as error:
                log.error("what was logged may not survive a power cut: %s", error)
            finally:
                os.close(file)

    def tidy(self) -> None:
        """Close what has been open for long; remove what is too old."""
        if self._file is not None and monotonic() - self._began > MOST_SECONDS:
            self._end()
        self._make_room()

    def close(self) -> None:
        """End the segment, and wait until all of it is on the disk."""
        self._end()
        self.sync()

    def _end(self) -> None:
        """Write no more to the segment; anybody may remove it from now on."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            with self._handing:
                self._full.append(self._file)
                self._file = None
            if not self._size:
                self._path.unlink(missing_ok=True)
        if len(self._full) > MOST_UNSYNCED:
            self.sync()

    def _is_full(self, more: int) -> bool:
        return self._size + more > self._segment or monotonic() - self._began > MOST_SECONDS

    def _open(self) -> bool:
        """Whether there is a new segment to write to."""
        if self._failed is not None and monotonic() - self._failed < PAUSE_SECONDS:
            return False
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room()
            self._path, self._file = _create(self._folder)
        except OSError as error:
            self._fail(error)
            return False
        self._size, self._began, self._told = 0, monotonic(), set()
        return True

    def _write(self, chunk: bytearray, ends: list[int]) -> int:
        """How many lines, ending there, could be written. What stands in the file is whole lines."""
        if self._file is None or not chunk:
            return 0
        done, content = 0, memoryview(chunk)
        try:
            while done < len(chunk):
                done += os.write(self._file, content[done:])
        except OSError as error:
            whole = max((end for end in ends if end <= done), default=0)
            self._size += whole
            self._fail(error)
            return sum(end <= done for end in ends)
        self._size += done
        self._unsynced = True
        if self._failed is not None:
            log.info("the prediction log is written again")
            self._failed = None
        return len(ends)

    def _fail(self, error: OSError) -> None:
        """Leave the segment as it was before the last line that has not found room."""
        if self._failed is None:
            log.error("predictions are not logged until it can be done again: %s", error)
        self._failed = monotonic()
        if self._file is None:
            return
        with self._handing:
            file, self._file = self._file, None
        try:
            os.ftruncate(file, self._size)
            if not self._size:
                self._path.unlink(missing_ok=True)
        except OSError as defect:
            log.debug("%s ends with half a line: %s", self._path, defect)
        finally:
            os.close(file)

    def _make_room(self) -> None:
        """Remove closed segments, the oldest first, until one more can be filled; and those that are too old."""
        closed = [(path, size) for path in paths(self._folder) if (size := _closed(path)) is not None]
        used, oldest = sum(size for _, size in closed), _name(time() - self._most_seconds)
        for i, (path, size) in enumerate(closed):
            if used > self._most or path.name < oldest or len(closed) - i > MOST_SEGMENTS:
                path.unlink(missing_ok=True)
                used -= size


def paths(folder: Path) -> list[Path]:
    """All segments of all writers, the oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if _NAME.fullmatch(path.name))


def read(path: Path, start: int = 0) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Whole lines from a place in the file on, each with where it begins and ends; others are passed over.

    Raises OSError, FileNotFoundError too where the segment has been removed.
    """
    with path.open("rb") as file:
        file.seek(start)
        for text in file:
            end = start + len(text)
            if text.endswith(b"\n") and (line := _parsed(text)) is not None:
                yield start, end, line
            start = end


def erase(path: Path, start: int, end: int) -> None:
    """Overwrite a line with blanks, on the disk too, also in a segment that is being written. Raises OSError."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(file, b" " * (end - start - 1) + b"\n", start)
        os.fsync(file)
    finally:
        os.close(file)


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = orjson.loads(text)
    except orjson.JSONDecodeError:  # erased, or what a broken disk has left
        return None
    return line if isinstance(line, dict) else None


def _create(folder: Path) -> tuple[Path, int]:
    """A new file, locked as long as it is open. Raises OSError."""
    while True:
        path = folder / f"{_name(time())}-{os.getpid()}{SUFFIX}"
        try:
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        fcntl.flock(file, fcntl.LOCK_EX)
        return path, file


def _name(when: float) -> str:
    """What the name of a segment that was begun then begins with."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y%m%dT%H%M%S.%f")


def _closed(path: Path) -> int | None:
    """The bytes of a segment that nobody writes to any more; None of another."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file).st_size
    except BlockingIOError:
        return None
    finally:
        os.close(file)
