"""Works that wait for one model: counted in rows, two priorities, never more than there is room and time for."""

import math
from collections import deque
from time import perf_counter

from service.errors import ClientGone, DeadlineExceeded, Overloaded
from service.inference.work import Work

# How much of a new measurement goes into the average time of a row.
FRESH = 0.1
# What comes behind others is taken on when it would be done in time though all took so many times as long as they do:
# under load they may, and who is told no can go elsewhere, while what comes too late was run for nobody. Where somebody
# has waited all the time for a while, more come than can be served: then a shorter line is as good, and is quicker.
CAUTION, STANDING_CAUTION = 1.5, 3.0
STANDING_SECONDS = 1.0
# Where each runs alone, and no longer than this, the next one is handed out before a thread is free (scheduler.py).
SHORT_SECONDS = 0.05


class Queue:
    """`inline` says that its works run on the event loop; `at_once` is how many rows of several works run together.

    `seconds_a_row` is learnt from what has run; `lanes` is how many batches can run side by side. How fast rows leave,
    the pace, is learnt as well: while others run too, or the event loop is busy, it is not what these two say.
    """

    def __init__(self, name: str, most_rows: int, inline: bool, at_once: int, seconds_a_row: float, lanes: int) -> None:
        self.inline = inline
        self.at_once = at_once
        self.rows = 0  # waiting
        self.running = 0
        self.served = 0.0  # seconds of running, for fairness
        self._name = name
        self._most_rows = most_rows
        self._seconds_a_row = seconds_a_row
        self._lanes = lanes
        self._pace = seconds_a_row / lanes
        self._ran_last: float | None = None  # while rows have waited since
        self._empty_until = 0.0
        self._interactive: deque[Work] = deque()
        self._batch: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    @property
    def urgent(self) -> bool:
        """Whether somebody waits who is not a batch job."""
        return bool(self._interactive)

    def add(self, work: Work) -> None:
        """Raises Overloaded when there is no room, or when it could not run before its deadline."""
        if not self.rows:
            self._empty_until = work.queued
        if self.rows + self.running + work.count > self._most_rows:
            raise Overloaded(self._full(f"{self.rows} rows wait"), self._retry_after())
        if self._is_too_late(work.count, work.call.deadline - work.queued):
            raise Overloaded(self._full(f"the wait is {self.wait() * 1000:.0f} ms"), self._retry_after())
        (self._interactive if work.call.priority == "interactive" else self._batch).append(work)
        self.rows += work.count

    def wait(self) -> float:
        """Seconds until a work that comes now would run, about."""
        return (self.rows + self.running) * self._pace

    def would_refuse(self, seconds: float) -> bool:
        """Whether there is no room or time for one more row that may take so many seconds."""
        return self.rows + self.running >= self._most_rows or self._is_too_late(1, seconds)

    @property
    def is_steady(self) -> bool:
        """Whether nothing is lost by choosing what runs next a little early."""
        return self.at_once == 1 and self._seconds_a_row < SHORT_SECONDS

    def rows_in(self, seconds: float, most: int) -> int:
        """How many rows run in so many seconds: at least one, and `most` at most."""
        return max(1, min(most, int(seconds / max(self._seconds_a_row, 1e-9))))

    def take(self, most: int) -> list[Work]:
        """Works of `most` rows together, or one that has more alone; what nobody waits for any more is dropped."""
        taken: list[Work] = []
        rows, now = 0, perf_counter()
        for line in (self._interactive, self._batch):
            while line:
                if taken and rows + line[0].count > most:
                    break
                work = line.popleft()
                self.rows -= work.count
                if self._still_wanted(work, now, alone=not taken and not self.rows):
                    taken.append(work)
                    rows += work.count
        self.running += rows
        return taken

    def expire(self) -> None:
        """Answer those whose time is over while they wait behind a long run."""
        now = perf_counter()
        for line in (self._interactive, self._batch):
            for _ in range(len(line)):
                work = line.popleft()
                self.rows -= work.count
                if self._still_wanted(work, now, alone=False):
                    line.append(work)
                    self.rows += work.count

    def ran(self, rows: int, seconds: float) -> None:
        """Take note of what a batch took."""
        now = perf_counter()
        self.running -= rows
        self.served += seconds
        if rows:
            between = seconds / self._lanes if self._ran_last is None else now - self._ran_last
            self._seconds_a_row += FRESH * (seconds / rows - self._seconds_a_row)
            self._pace += FRESH * (between / rows - self._pace)
        self._ran_last = now if self.rows else None

    def _still_wanted(self, work: Work, now: float, *, alone: bool) -> bool:
        """Who would come too late is not run, unless nobody else could be: one slow run, and nobody who has little time
        would ever be run again, nor would it be seen that a row takes less by now."""
        if work.call.gone:
            work.fail(ClientGone())
            return False
        takes = 0.0 if alone else work.count * self._seconds_a_row
        if now + takes >= work.call.deadline:
            work.fail(DeadlineExceeded(f"{self._name} could not be run within the request's time"))
            return False
        return True

    def _is_too_late(self, rows: int, seconds: float) -> bool:
        if not self.rows:
            return False
        standing = perf_counter() - self._empty_until > STANDING_SECONDS
        caution = STANDING_CAUTION if standing else CAUTION
        return caution * (self.wait() + rows * self._seconds_a_row) > seconds

    def _full(self, why: str) -> str:
        return f"{self._name} is busy: {why}; try again shortly"

    def _retry_after(self) -> int:
        return max(1, math.ceil(self.wait()))
