"""The generator of overload, against servers whose every answer is counted on the other side as well.

Client and server are one process: where it stands still, requests are sent late and answers come late. So a client
that is to wait for answers has all the time that there is, and what is held back is held until so many are waiting.
"""

import asyncio
import socket
from collections.abc import Callable

import pytest

from benchmarks.openloop import Client, Outcome
from benchmarks.requests import Request
from tests.waiting import PATIENCE_SECONDS

RATE, SECONDS, IMPATIENCE = 200.0, 1.0, 0.25
REQUEST = Request("/predict", "application/json", b'{"instances": [1]}', lambda _: [])

Write = Callable[[bytes], None]
# What to do about a request: its number, and what writes to whom it is from.
Answer = Callable[[int, Write], None]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 4\r\n\r\nfull"


class Server:
    """Does with every request as it is told, and counts them."""

    def __init__(self, answer: Answer, deadline: float) -> None:
        self.answer, self.deadline, self.read, self.open = answer, deadline, 0, set()

    async def run(self) -> Outcome:
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: Peer(self), "127.0.0.1", 0)
        try:
            port = listening.sockets[0].getsockname()[1]
            outcome = await Client(port, REQUEST, self.deadline).load(RATE, SECONDS)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.read < outcome.sent:  # what was sent is on its way, though its client has gone
                    await asyncio.sleep(0.001)
            return outcome
        finally:
            listening.close()
            for transport in self.open:
                transport.abort()
            await listening.wait_closed()


class Peer(asyncio.Protocol):
    """One connection of it."""

    def __init__(self, server: Server) -> None:
        self.server, self.received = server, b""

    def connection_made(self, transport):
        self.transport = transport
        self.server.open.add(transport)

    def connection_lost(self, error):
        self.server.open.discard(self.transport)

    def data_received(self, data):
        self.received += data
        if self.received.endswith(REQUEST.body):
            assert b"x-request-timeout-ms: %d\r\n" % (1000 * self.server.deadline) in self.received
            self.received = b""
            self.server.read += 1
            self.server.answer(self.server.read, self.transport.write)


def run(answer: Answer, deadline: float = PATIENCE_SECONDS) -> tuple[Outcome, int]:
    """What the client says came of it, and how many requests the server has read."""
    server = Server(answer, deadline)
    return asyncio.run(server.run()), server.read


def at_once(content: bytes) -> Answer:
    return lambda _, write: write(content)


def test_all_that_is_due_is_sent_and_counted():
    outcome, read = run(at_once(OK))
    assert outcome.due == outcome.sent == read == outcome.statuses[200] == len(outcome.latencies)
    # A Poisson process: its standard deviation is the root of what is expected.
    assert abs(outcome.due - RATE * SECONDS) < 5 * (RATE * SECONDS) ** 0.5


def test_refusals_are_not_good_answers():
    outcome, read = run(lambda number, write: write(FULL if number % 4 else OK))
    assert outcome.statuses[200] == len(outcome.latencies) == read // 4
    assert outcome.statuses[503] == outcome.with_retry_after == len(outcome.refused) == read - read // 4


def test_it_goes_on_asking_while_nothing_is_answered():
    held: list[Write] = []

    def once_a_hundred_wait(number: int, write: Write) -> None:
        held.append(write)
        if number >= 100:
            while held:
                held.pop()(OK)

    outcome, read = run(once_a_hundred_wait)
    assert outcome.due == outcome.sent == read == outcome.statuses[200]


def test_who_gets_no_answer_gives_up():
    outcome, read = run(lambda *_: None, IMPATIENCE)
    assert outcome.gave_up == outcome.due > 100
    # Those that were due last are given up before they are sent, where the machine is busy.
    assert read == outcome.sent <= outcome.due
    assert not outcome.latencies


def test_what_comes_too_late_is_not_good():
    def late(_: int, write: Write) -> None:
        asyncio.get_running_loop().call_later(IMPATIENCE + 0.1, write, OK)

    outcome, _ = run(late, IMPATIENCE)
    assert outcome.gave_up == outcome.due > 100
    assert outcome.statuses[200] == 0


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 5\r\n\r\nab", b"cde"], id="cut anywhere"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", b"0\r\n\r\n"], id="chunked"
        ),
    ],
)
def test_an_answer_in_pieces_is_one_answer(parts: list[bytes]):
    def piece_by_piece(_: int, write: Write) -> None:
        for i, part in enumerate(parts):
            asyncio.get_running_loop().call_later(0.002 * i, write, part)

    outcome, _ = run(piece_by_piece)
    assert outcome.statuses[200] == outcome.due > 100


def test_a_server_that_is_not_there_is_broken_and_not_waited_for():
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        outcome = asyncio.run(Client(taken.getsockname()[1], REQUEST, PATIENCE_SECONDS).load(100.0, 0.3))
    assert outcome.broken == outcome.due > 10
    assert outcome.sent == 0
