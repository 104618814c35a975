"""What one version has counted in the last hour and the last day, told from totals that are read now and then.

A window is a difference of totals, as in Prometheus. So the rows cost nothing beyond being counted, and a window takes
as much memory as it has samples: one of the totals before each five minutes of the hour, and each hour of the day.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from contract.histogram import Counts

Window = Literal["1h", "24h"]
WINDOWS: tuple[Window, ...] = get_args(Window)


class Sample(NamedTuple):
    """Everything counted until then, in Unix seconds."""

    time: float
    total: Counts


class Span(NamedTuple):
    """A window's seconds, and those of its steps: it reaches back over a whole number of them."""

    seconds: float
    step: float

    @property
    def samples(self) -> int:
        """One before each step, the one that is being counted, and one that is older than all."""
        return round(self.seconds / self.step) + 2


SPANS: Mapping[Window, Span] = {"1h": Span(3600.0, 300.0), "24h": Span(86400.0, 3600.0)}


class Rows(NamedTuple):
    """Counts of a window by flat bin, and from when to when it goes."""

    counts: Counts
    since: float
    until: float


class History:
    """Of one version. `raw` are the counters as they were read last; they begin anew when the service does, which the
    totals do not."""

    def __init__(self, last: Sample, raw: Counts, samples: Mapping[Window, Sequence[Sample]]) -> None:
        self.last = last
        self.raw = raw
        self.samples = {window: deque(samples[window], maxlen=SPANS[window].samples) for window in WINDOWS}

    @classmethod
    def begun(cls, now: float, bins: int) -> "History":
        """Whatever has been counted by the first look belongs to the windows."""
        nothing = np.zeros(bins, np.int64)
        first = Sample(now, nothing)
        return cls(first, nothing, dict.fromkeys(WINDOWS, (first,)))

    def began_anew(self) -> None:
        """The counters that are read from now on are those of another run, from 0."""
        self.raw = np.zeros_like(self.raw)

    def look(self, now: float, raw: Counts) -> None:
        """Take in the counters as they are. What is looked at seldom is told coarsely: rows count when they are seen.

        When the clock has been set back, samples of the future become samples of now, and age from here. When nobody
        looked for long, the machine being off, say, the last look before that is a sample: so the rows of before leave
        the windows in time.
        """
        if now < self.last.time:
            self._set_back(now)
        for window, samples in self.samples.items():
            step = SPANS[window].step
            if now // step != self.last.time // step:
                samples.append(self.last)
        self.last, self.raw = Sample(now, self._total(raw)), raw

    def rows(self, window: Window, now: float, raw: Counts) -> Rows:
        """Of the last hour or day and up to one step more, or since this version began to serve."""
        samples = [*self.samples[window], self.last]
        old = [sample for sample in samples if sample.time <= now - SPANS[window].seconds]
        base = old[-1] if old else samples[0]
        return Rows(self._total(raw) - base.total, min(base.time, now), now)

    def _total(self, raw: Counts) -> Counts:
        """A counter that is less than it was has begun anew, and all with it: as Prometheus' increase() has it."""
        total: Counts = self.last.total + (raw - self.raw if (raw >= self.raw).all() else raw)
        return total

    def _set_back(self, now: float) -> None:
        for window, samples in self.samples.items():
            moved = (sample._replace(time=min(sample.time, now)) for sample in samples)
            self.samples[window] = deque(moved, maxlen=samples.maxlen)
        self.last = self.last._replace(time=now)
