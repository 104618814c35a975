"""The folder in which the workers of one supervisor count; in memory where the system has such a place.

It goes when the supervisor ends. What one that was killed has left, the next one to start removes: a folder whose
supervisor lives is locked.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "hornpipe-workers-"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108  # only a folder of our own in it, that nobody else may enter


class Scratch:
    """A new folder. `place` is where it is made and where old ones are looked for."""

    def __init__(self, place: Path | None = None) -> None:
        place = place or (_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir()))
        for left in place.glob(f"{_PREFIX}*"):
            _sweep(left)
        self.path, self._lock = _make(place)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _make(place: Path) -> tuple[Path, int]:
    """A folder and the lock on it; another one, if somebody who starts now has swept it away before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path, lock
        os.close(lock)


def _sweep(left: Path) -> None:
    try:
        lock = os.open(left, os.O_RDONLY)
    except OSError:  # another user's, or gone
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(left, ignore_errors=True)
    except BlockingIOError:
        return  # its supervisor lives
    finally:
        os.close(lock)
