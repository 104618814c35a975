"""How late the event loop is: what a request would have waited before anybody looked at it.

A timer asks to be called at fixed moments and notes how long after each it was. A loop that stands still for two
seconds misses twenty of them, and all twenty are noted, each with its own wait: a single sample would hide that every
request of those seconds had to wait (G. Tene, How NOT to Measure Latency, 2013, on coordinated omission).
"""

import asyncio
import time
from collections.abc import Callable

EVERY_SECONDS = 0.1
# Moments missed for longer than this are not made up for one by one.
MOST_SECONDS = 30.0


class LoopLag:
    """Calls `note` with seconds, ten times a second. uvloop's clock ticks in milliseconds: less cannot be told."""

    def __init__(self, note: Callable[[float], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._note = note
        self._clock = clock
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """On the running event loop."""
        self._due = self._clock() + EVERY_SECONDS
        self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._clock()
        late = min(max(0.0, now - self._due), MOST_SECONDS)  # a timer may also come a little early
        moments = 1 + int(late / EVERY_SECONDS)
        for i in range(moments):
            self._note(late - i * EVERY_SECONDS)
        self._due = max(self._due, now - late) + moments * EVERY_SECONDS
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._due - self._clock()), self._tick)
