"""Who is taken on and who is not, by a clock that the test moves; and threads that find their next job ready."""

import asyncio
import threading
from typing import Any

import pytest

from service.errors import Overloaded
from service.http.call import Call
from service.http.messages import Request
from service.inference.queue import Queue
from service.inference.threads import Threads
from service.inference.work import Work
from tests.waiting import PATIENCE_SECONDS

A_ROW = 0.1


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("service.inference.queue", "service.inference.work"):
        monkeypatch.setattr(f"{module}.perf_counter", clock)
    return clock


def queue(lanes: int = 1, at_once: int = 1, a_row: float = A_ROW) -> Queue:
    return Queue("model", 1000, inline=False, at_once=at_once, seconds_a_row=a_row, lanes=lanes)


def work(clock: Clock, seconds: float = 1.0, count: int = 1) -> Work:
    call = Call(Request("POST", b"/predict", []), "id", clock.now + seconds, "interactive", b"")
    model: Any = None  # what runs it is not asked here
    return Work(model, call, count, None, None)


def filled(line: Queue, clock: Clock, seconds: float = 1.0) -> int:
    """How many that may take so long are taken on until one is refused."""
    for taken in range(1000):
        try:
            line.add(work(clock, seconds))
        except Overloaded:
            return taken
    raise AssertionError("nobody was refused")


def run_one(line: Queue, clock: Clock, seconds: float) -> None:
    """One row runs, alone on its thread."""
    rows = sum(each.count for each in line.take(1))
    clock.now += seconds
    line.ran(rows, seconds)


def test_who_would_come_too_late_is_refused_with_room_for_a_slower_hour(clock: Clock) -> None:
    """Six rows of 0.1 s, one after another, take 0.6 s; half as much again is 0.9 s, and a seventh makes it 1.05 s."""
    line = queue()
    assert filled(line, clock, 1.0) == 6
    assert line.would_refuse(1.0)
    assert not line.would_refuse(2.0)


def test_nothing_is_refused_where_nobody_waits(clock: Clock) -> None:
    """What cannot be done in its time at all is not too much: it is told so when it would run."""
    line = queue()
    assert not line.would_refuse(A_ROW / 2)
    line.add(work(clock, A_ROW / 2))


def test_a_line_that_never_ends_is_kept_shorter(clock: Clock) -> None:
    """After a second in which somebody always waited, all must be in time though each took three times as long."""
    line = queue()
    while clock.now < 103.0:
        filled(line, clock, 1.0)
        run_one(line, clock, A_ROW)
    filled(line, clock, 1.0)
    assert line.rows == 3  # 3 x (2 + 1) x 0.1 s was in time for the last of them

    for _ in range(3):
        run_one(line, clock, A_ROW)
    assert filled(line, clock, 1.0) == 6  # it has come to its end, and may be long again


def test_the_pace_is_that_of_rows_that_leave(clock: Clock) -> None:
    """A row takes 0.1 s on a thread, but is followed by the next only after 0.4 s: others run as well."""
    line = queue(lanes=2)
    for _ in range(60):
        line.add(work(clock, 1000.0))
    for _ in range(50):
        (one,) = line.take(1)
        clock.now += 0.4
        line.ran(one.count, A_ROW)

    assert line.wait() == pytest.approx(10 * 0.4, rel=0.05)


def test_a_slow_hour_is_forgotten_by_who_runs_alone(clock: Clock) -> None:
    line = queue()
    for _ in range(2):
        line.add(work(clock, 1000.0))
    run_one(line, clock, 50.0)
    run_one(line, clock, 50.0)
    for _ in range(100):
        line.add(work(clock, 1000.0))
        run_one(line, clock, A_ROW)

    assert filled(line, clock, 1.0) == 6


def test_a_slow_hour_is_forgotten_though_nobody_has_so_much_time(clock: Clock) -> None:
    """A process that was stopped for a while, say: each of those who come now has less time than a row took then."""
    line = queue()
    line.add(work(clock, 1000.0))
    run_one(line, clock, 50.0)
    for _ in range(100):
        line.add(work(clock, 1.0))
        run_one(line, clock, A_ROW)

    assert filled(line, clock, 1.0) == 6


def test_of_those_who_would_come_too_late_only_the_last_is_run(clock: Clock) -> None:
    """Somebody must be, to see what a row takes; whose time is over is nobody."""
    line, waiting = queue(), [work(clock, 100.0) for _ in range(3)]
    for each in waiting:
        line.add(each)
    clock.now += 99.95
    assert line.take(3) == waiting[2:]
    assert [each.error is not None for each in waiting] == [True, True, False]

    over = work(clock, 0.0)
    line.add(over)
    assert line.take(3) == []
    assert over.error is not None


@pytest.mark.parametrize(("at_once", "a_row", "steady"), [(1, 0.01, True), (32, 0.001, False), (1, 2.0, False)])
def test_only_short_runs_of_one_row_are_chosen_early(at_once: int, a_row: float, steady: bool) -> None:
    """More would join those that run together, and a long run would keep who comes in between waiting."""
    assert queue(at_once=at_once, a_row=a_row).is_steady is steady


def test_jobs_beyond_the_threads_lie_ready_and_run_in_order() -> None:
    opened, ran = threading.Event(), []

    def run(job: int) -> int:
        assert opened.wait(PATIENCE_SECONDS)
        ran.append(threading.current_thread().name)
        return job * job

    async def serve() -> list[tuple[int, object]]:
        done: asyncio.Queue[tuple[int, object]] = asyncio.Queue()
        threads: Threads[int, int] = Threads(1, run, lambda job, result: done.put_nowait((job, result)))
        for job in (1, 2, 3):
            threads.start(job)
        assert threads.free == -2
        opened.set()
        results = [await asyncio.wait_for(done.get(), PATIENCE_SECONDS) for _ in range(3)]
        assert threads.free == 1
        threads.close()
        return results

    assert asyncio.run(serve()) == [(1, 1), (2, 4), (3, 9)]
    assert len(set(ran)) == 1
