"""Which of several processes does what one alone may do: the first that takes the lock, as long as it lives."""

import fcntl
import os
from pathlib import Path


class Leader:
    """One process's claim. The system lets go of the lock when the process dies, however it does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def leads(self) -> bool:
        """Take the lock if nobody has it; whether it is ours. Raises OSError where there can be no such file."""
        if self._lock is not None:
            return True
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock = lock
        return True

    def step_down(self) -> None:
        """Let another process lead."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
