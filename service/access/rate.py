"""How often somebody may ask: a token bucket."""

import math


class Bucket:
    """Fills with `rate` tokens a second, up to `most`; every request takes one. Times are seconds of any one clock."""

    __slots__ = ("_filled", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, most: float) -> None:
        self._rate = rate
        self._most = most
        self._tokens = most
        self._filled = -math.inf

    def take(self, now: float) -> float:
        """Take a token; seconds until there is one where there is none now, else 0."""
        self._tokens = min(self._most, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
