"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable

# A limit is there to end what hangs: a machine that others use may stand still for longer than anybody would guess.
PATIENCE_SECONDS = 300.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """For `seconds` at most, and never for less than our patience. Raises AssertionError that says what did not come
    about."""
    most = max(seconds, PATIENCE_SECONDS)
    ends = time.monotonic() + most
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"not within {most:g} s: {what}")
        time.sleep(0.01)
