"""How long each stage took, and what every process has said: for people, where a test fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_until

LAST_CHARACTERS = 4000


class Stages:
    """A clock that is read when something has come about."""

    def __init__(self) -> None:
        self._began = self._last = time.time()

    def reached(self, what: str) -> float:
        """The moment, in seconds since 1970."""
        now = time.time()
        print(f"{now - self._began:7.1f} s  +{now - self._last:5.1f} s  {what}")
        self._last = now
        return now

    def wait(self, condition: Callable[[], object], what: str, seconds: float) -> float:
        """Until it has come about; then, the moment."""
        wait_until(condition, what, seconds)
        return self.reached(what)


@contextmanager
def logs_shown(folder: Path) -> Iterator[None]:
    """The end of each log in the folder, when all is over: pytest shows what a test that failed has printed."""
    try:
        yield
    finally:
        for path in sorted([*folder.glob("*.log"), *folder.glob("log")]):
            print(f"\n--- {path.name}\n{path.read_text(errors='replace')[-LAST_CHARACTERS:]}")
