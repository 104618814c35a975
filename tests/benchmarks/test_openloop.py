"""The generator of overload, against servers whose every answer is counted on the other side as well."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from benchmarks.openloop import Client, Outcome
from benchmarks.requests import Request

RATE, SECONDS, DEADLINE = 400.0, 1.0, 0.25
REQUEST = Request("/predict", "application/json", b'{"instances": [1]}', lambda _: [])

# What to send after a request, and how many seconds later each piece; the argument is the request's number.
Answer = Callable[[int], list[tuple[float, bytes]]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 4\r\n\r\nfull"


class Server:
    """Answers every request as it is told, and counts them."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.read, self.open = answer, 0, set()

    async def run(self, rate: float = RATE, seconds: float = SECONDS) -> Outcome:
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(lambda: Peer(self), "127.0.0.1", 0)
        try:
            return await Client(listening.sockets[0].getsockname()[1], REQUEST, DEADLINE).load(rate, seconds)
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
            assert b"x-request-timeout-ms: 250\r\n" in self.received
            self.received = b""
            self.server.read += 1
            for seconds, part in self.server.answer(self.server.read):
                asyncio.get_running_loop().call_later(seconds, self.transport.write, part)


def run(answer: Answer) -> tuple[Outcome, int]:
    """What the client says came of it, and how many requests the server has read."""
    server = Server(answer)
    return asyncio.run(server.run()), server.read


def test_all_that_is_due_is_sent_and_counted():
    outcome, read = run(lambda _: [(0, OK)])
    assert outcome.sent == read == outcome.statuses[200] == len(outcome.latencies)
    assert outcome.due == outcome.sent + outcome.gave_up
    # A Poisson process: its standard deviation is the root of what is expected.
    assert abs(outcome.due - RATE * SECONDS) < 5 * (RATE * SECONDS) ** 0.5


def test_refusals_are_not_good_answers():
    outcome, read = run(lambda number: [(0, FULL if number % 4 else OK)])
    assert outcome.statuses[200] == len(outcome.latencies) == read // 4
    assert outcome.statuses[503] == outcome.with_retry_after == len(outcome.refused) == read - read // 4


def test_it_goes_on_asking_while_nothing_is_answered():
    outcome, read = run(lambda _: [])
    assert outcome.gave_up == outcome.due
    # Those that were due last are given up before they are sent, where the machine is busy.
    assert 300 < read == outcome.sent <= outcome.due
    assert not outcome.latencies


def test_what_comes_too_late_is_not_good():
    outcome, _ = run(lambda _: [(DEADLINE + 0.1, OK)])
    assert outcome.gave_up == outcome.due
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
    outcome, _ = run(lambda _: [(0.002 * i, part) for i, part in enumerate(parts)])
    assert outcome.statuses[200] == outcome.due > 300


def test_a_server_that_is_not_there_is_broken_and_not_waited_for():
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        outcome = asyncio.run(Client(taken.getsockname()[1], REQUEST, DEADLINE).load(100.0, 0.3))
    assert outcome.broken == outcome.due > 10
    assert outcome.sent == 0
