"""Coroutines that are driven by hand, many at once."""

import asyncio
from time import perf_counter

from service.http.steps import TURN_SECONDS, Crowd, Steps

MANY = 20


async def reads(body: int) -> int:
    """Works for as long as a crowd may, as on a body of megabytes."""
    until = perf_counter() + TURN_SECONDS
    while perf_counter() < until:
        pass
    return body


def test_who_is_ready_does_not_wait_for_all_who_have_come() -> None:
    begun: list[int] = []
    before: list[int] = []

    async def run() -> None:
        crowd = Crowd()
        for body in range(MANY):
            crowd.add(Steps(reads(body), begun.append))
        # As rows that are ready are handed to a thread.
        asyncio.get_running_loop().call_soon(lambda: before.append(len(begun)))
        while len(begun) < MANY:
            await asyncio.sleep(0)

    asyncio.run(run())

    assert begun == list(range(MANY))
    assert before == [1]


def test_who_comes_while_others_begin_begins_too() -> None:
    begun: list[int] = []

    async def comes(crowd: Crowd, others: int) -> int:
        for _ in range(others):
            crowd.add(Steps(comes(crowd, 0), begun.append))
        return others

    async def run() -> None:
        crowd = Crowd()
        crowd.add(Steps(comes(crowd, 2), begun.append))
        while len(begun) < 3:
            await asyncio.sleep(0)

    asyncio.run(run())

    assert begun == [2, 0, 0]
