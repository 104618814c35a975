"""SIGTERM and Ctrl-C while training: noticed at once, acted upon where the state is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stop(BaseException):
    """Someone asked to stop. Not an Exception: nothing on the way (TensorFlow traces Python code) may swallow it."""


class Interruption:
    """Within it, the two signals no longer kill: `check` raises Stop after one, and `at_once` at the very moment.

    Only a process's main thread gets signals; on any other one a run is stopped by `ask`.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._asked = False
        self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._on_signal) for each in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def ask(self) -> None:
        """Stop as soon as the state is whole."""
        self._asked = True

    def check(self) -> None:
        """Raises Stop when someone asked to."""
        if self._asked:
            raise Stop

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For long work in Python that changes nothing: a signal raises Stop right there.

        What it interrupts may be TensorFlow's C++ calling Python, which swallows a Stop, or makes a SystemError of it:
        whatever comes out of the block after a signal, comes out as Stop.
        """
        self._at_once = True
        try:
            self.check()
            yield
            self.check()
        except Exception:
            self.check()
            raise
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        again, self._asked = self._asked, True
        if self._at_once and not again:
            raise Stop
