"""Notes against counting one by one."""

import numpy as np
import pytest

from service.counting.counters import LARGEST, MOST_NOTES, NANOSECONDS, Counters, Group, Layout
from service.counting.instruments import BATCH_ROWS, REJECTED, STAGE_SECONDS
from service.counting.ledger import Ledger, zeros

SECONDS = (0.001, 0.01, 0.1)
LAYOUT = Layout(
    (
        Group(STAGE_SECONDS, (("run",), ("queue",)), SECONDS, NANOSECONDS),
        Group(REJECTED, (("deadline",),)),
        Group(BATCH_ROWS, ((),), (1, 2, 4)),
    )
)
RUN, QUEUE = (LAYOUT.base(STAGE_SECONDS, stage) for stage in ("run", "queue"))


def by_bucket(values: np.ndarray, bounds: tuple[float, ...]) -> list[int]:
    at_most = [int((values <= bound).sum()) for bound in bounds] + [len(values)]
    return np.diff([0, *at_most]).tolist()


@pytest.mark.parametrize("shared", [False, True])
def test_every_note_is_in_its_bucket_and_in_the_sum(shared: bool) -> None:
    rng = np.random.default_rng(0)
    seconds = {RUN: 10 ** rng.uniform(-5, 1, 3 * MOST_NOTES), QUEUE: rng.choice([*SECONDS, 0.0, 0.5], 100)}
    block = zeros(LAYOUT.type)
    counters = Counters(LAYOUT, block, shared=shared)
    for base, values in seconds.items():
        for each in values:
            counters.note(base, int(each * NANOSECONDS))
    counters.note(LAYOUT.base(REJECTED, "deadline"), 5)
    counters.note_all([LAYOUT.base(BATCH_ROWS) + rows for rows in (1, 2, 3, 4, 5)])
    counts, sums = LAYOUT.read(Ledger(block, shared=shared))

    run, queue, rejected, rows = np.split(counts, [4, 8, 9])
    assert run.tolist() == by_bucket(seconds[RUN], SECONDS)
    assert queue.tolist() == by_bucket(seconds[QUEUE], SECONDS)
    assert rejected.tolist() == [1]
    assert rows.tolist() == [1, 1, 2, 1]
    np.testing.assert_allclose(sums[:2] / NANOSECONDS, [seconds[RUN].sum(), seconds[QUEUE].sum()], rtol=1e-6)
    assert sums[2:].tolist() == [5, 15]


def test_an_amount_that_has_no_room_stays_in_its_series() -> None:
    block = zeros(LAYOUT.type)
    counters = Counters(LAYOUT, block, shared=False)
    for amount in (-1, LARGEST + 1, 2**63):
        counters.note(QUEUE, amount)
    counts, _ = LAYOUT.read(Ledger(block, shared=False))

    assert counts.tolist() == [0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0]


def test_who_takes_a_block_over_counts_what_was_only_noted() -> None:
    block = zeros(LAYOUT.type)
    for _ in range(3):
        counters = Counters(LAYOUT, block, shared=True)
        for _ in range(MOST_NOTES + 10):
            counters.note(RUN, 5)
    counts, sums = LAYOUT.read(Ledger(block, shared=True))

    assert (counts[0], sums[0]) == (3 * (MOST_NOTES + 10), 15 * (MOST_NOTES + 10))


def test_layouts_are_told_apart() -> None:
    def digest(**changes: object) -> int:
        group = {"instrument": STAGE_SECONDS, "labels": (("run",),), "bounds": SECONDS, "scale": NANOSECONDS}
        return Layout([Group(**group | changes)]).digest

    others = [
        digest(labels=(("queue",),)),
        digest(bounds=(0.1, 1.0)),
        digest(instrument=REJECTED),
        digest(always=False),
    ]
    assert digest() == digest()
    assert len({digest(), *others}) == 5


def test_an_unknown_series_is_an_error() -> None:
    with pytest.raises(KeyError):
        LAYOUT.base(STAGE_SECONDS, "encode")
