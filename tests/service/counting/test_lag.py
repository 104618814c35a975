"""How late the event loop is."""

import asyncio
import time
from itertools import pairwise

import pytest
import uvloop

from service.counting.lag import EVERY_SECONDS, MOST_SECONDS, LoopLag
from service.counting.store import OwnMemory
from tests.service.scraped import scraped, value
from tests.service.untrained import Process


def noted_while(*work: float) -> list[float]:
    """Lags noted while the loop is busy for so many seconds at a time, with half a second to rest after each."""
    noted: list[float] = []

    async def run() -> None:
        lag = LoopLag(noted.append)
        lag.start()
        for seconds in work:
            time.sleep(seconds)  # that is what is measured
            await asyncio.sleep(0.5)
        lag.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return noted


def test_every_moment_that_was_missed_is_noted_with_its_own_wait() -> None:
    noted = noted_while(1.05)
    first = noted.index(max(noted))

    # It should have come at 0.1, 0.2 ... and came at 1.05: 0.95 late for the first of them, 0.85 for the second.
    assert noted[first] >= 0.9
    steps = [before - after for before, after in pairwise(noted[first : first + 9])]
    assert steps == pytest.approx([EVERY_SECONDS] * 8)
    assert min(noted) >= 0


def test_moments_are_ten_a_second_and_none_is_lost() -> None:
    began = time.monotonic()
    noted = noted_while(0.0, 0.0)

    assert 8 <= len(noted) <= 10 * (time.monotonic() - began)


def test_what_is_far_too_late_is_not_made_up_for_without_end() -> None:
    noted: list[float] = []
    now = [0.0]

    async def run() -> None:
        lag = LoopLag(noted.append, lambda: now[0])
        lag.start()
        now[0] = 86_400.0
        while not noted:
            await asyncio.sleep(0.01)
        lag.stop()

    asyncio.run(run())
    assert max(noted) == MOST_SECONDS
    assert len(noted) <= MOST_SECONDS / EVERY_SECONDS + 1


def test_a_scrape_has_it_of_no_model() -> None:
    process = Process(OwnMemory())
    for seconds in (0.0004, 0.004, 0.004, 20.0):
        process.metrics.late(seconds)
    samples = scraped(process.metrics)

    name = "hornpipe_event_loop_lag_seconds"
    assert [value(samples, f"{name}_bucket", le=le) for le in ("0.001", "0.0025", "0.005", "10.0", "+Inf")] == [
        1,
        1,
        3,
        3,
        4,
    ]
    assert value(samples, f"{name}_count") == 4
    assert value(samples, f"{name}_sum") == pytest.approx(20.0084)
