"""The runtimes of one model, for one run at a time.

Interpreters are for one thread at a time, and giving one another number of rows costs as much as running dozens of
them. So a lane has one for each of a few batch sizes, made when it is first needed; rows are filled up to the next
size with copies of the last, whose outputs are dropped, and what is more than the largest is run in parts. TensorFlow
sees the same few sizes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from contract.features import Encoded
from contract.manifest import Variant
from contract.runtimes import Outputs, Runtime

LITERT_SIZES = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)
SAVEDMODEL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
ALONE = (1,)

Pause = Callable[[], None]

# Batching must save at least so much of the time of a row: it makes the first row of a batch wait for the last.
WORTH_SAVING = 0.2


def batch_sizes(variant: Variant) -> Sequence[int]:
    """How many rows run at once: one for a LiteRT variant whose measured latencies do not gain from more."""
    if variant.runtime == "savedmodel":
        return SAVEDMODEL_SIZES
    one, each_of_many = variant.latency["1"].p50, variant.latency["32"].p50 / 32
    return LITERT_SIZES if each_of_many < (1 - WORTH_SAVING) * one else ALONE


class Lane:
    """Runs rows, as many as come. `make` gives a runtime of the variant that nobody else uses."""

    def __init__(self, make: Callable[[], Runtime], sizes: Sequence[int]) -> None:
        self._make = make
        self._sizes = sizes
        self._runtimes: dict[int, Runtime] = {}

    def used(self) -> list[int]:
        """The sizes that have been run."""
        return list(self._runtimes)

    def warm(self, row: Encoded, sizes: Sequence[int], pause: Pause) -> None:
        """Make and run some sizes, with copies of one row."""
        for size in sizes:
            self._exactly(row.take(np.zeros(size, np.int64)))
            pause()

    def run(self, encoded: Encoded) -> Outputs:
        """Outputs by name, the first dimension being rows."""
        rows = encoded.rows
        if rows in self._sizes:
            return self._exactly(encoded)
        parts = [self._padded(encoded, start, count, size) for start, count, size in _plan(rows, self._sizes)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _padded(self, encoded: Encoded, start: int, count: int, size: int) -> Outputs:
        if count == size:
            return self._exactly(encoded.take(slice(start, start + count)))
        filled = np.minimum(np.arange(start, start + size), start + count - 1)
        return {name: output[:count] for name, output in self._exactly(encoded.take(filled)).items()}

    def _exactly(self, encoded: Encoded) -> Outputs:
        runtime = self._runtimes.get(encoded.rows)
        if runtime is None:
            runtime = self._runtimes[encoded.rows] = self._make()
        return runtime.run(encoded)


class Lanes:
    """The lanes of one model: whoever runs borrows one, and gives it back. From any thread.

    There are never more than have run at once, and the last one given back, whose memory is still in the caches, is
    lent first. `make` loads another runtime, `first` is one that is there; one that is thread-safe serves all lanes.
    """

    def __init__(self, make: Callable[[], Runtime], sizes: Sequence[int], first: Runtime) -> None:
        self.sizes = sizes
        self._make = make
        self._runtimes = [first]
        self._unused = [] if first.thread_safe else [first]
        self._free: list[Lane] = []
        self._lanes: list[Lane] = []

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced a graph for them."""
        return sum(getattr(runtime, "traces", 0) for runtime in list(self._runtimes))

    @property
    def process(self) -> int | None:
        """The id of the process that runs them, where it is another than this."""
        return next((pid for runtime in list(self._runtimes) if (pid := getattr(runtime, "pid", None))), None)

    def used(self) -> list[int]:
        """The sizes that any lane has run."""
        return sorted({size for lane in list(self._lanes) for size in lane.used()})

    def borrow(self) -> Lane:
        try:
            return self._free.pop()
        except IndexError:
            lane = Lane(self._runtime, self.sizes)
            self._lanes.append(lane)
            return lane

    def give_back(self, lane: Lane) -> None:
        self._free.append(lane)

    def warm(self, row: Encoded, lanes: int, sizes: Sequence[int], pause: Pause) -> None:
        """Make and run so many lanes before anybody waits for them, with a pause after each step."""
        borrowed = [self.borrow() for _ in range(lanes)]
        for lane in borrowed:
            lane.warm(row, sizes, pause)
            self.give_back(lane)

    def close(self) -> None:
        """Give all memory back. Nobody runs on a lane, and nobody will."""
        self._free.clear()
        self._lanes.clear()
        while self._runtimes:
            self._runtimes.pop().close()

    def _runtime(self) -> Runtime:
        if self._runtimes[0].thread_safe:
            return self._runtimes[0]
        try:
            return self._unused.pop()
        except IndexError:
            runtime = self._make()
            self._runtimes.append(runtime)
            return runtime


def _plan(rows: int, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Start, rows and size of each part."""
    largest = sizes[-1]
    for start in range(0, rows, largest):
        count = min(largest, rows - start)
        yield start, count, sizes[bisect_left(sizes, count)]
