"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Raises AssertionError that says what did not come about."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
