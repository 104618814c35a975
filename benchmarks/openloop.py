"""An open loop: requests are sent when they are due, whatever has become of the ones before, as real clients do.

wrk waits for an answer before it asks again, so it cannot ask more than a server can answer. This one has as many
connections as it takes. A client gives up at the deadline and closes its connection, as real clients do as well.
Latencies count from when the request was due, not from when it could be sent.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.requests import Request

TICK_SECONDS = 0.001
LATE_SECONDS = 0.05
_END_OF_HEAD = b"\r\n\r\n"


@dataclass
class Outcome:
    """What came of a load. `latencies` are the seconds of every 200 in time, `refused` those of the other answers."""

    due: int = 0
    sent: int = 0
    sent_late: int = 0
    gave_up: int = 0
    broken: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    with_retry_after: int = 0
    cpu: float = 0.0


class Client:
    """Sends one request, over and over, to one port."""

    def __init__(self, port: int, request: Request, deadline: float) -> None:
        self._port, self._deadline = port, deadline
        self._bytes = _rendered(port, request, deadline)
        self._idle: deque[_Connection] = deque()
        self._flying: deque[tuple[_Connection, float]] = deque()
        self.outcome = Outcome()

    async def load(self, rate: float, seconds: float, seed: int = 0) -> Outcome:
        """`rate` requests a second, apart by exponentially distributed times (a Poisson process)."""
        began, spent = time.perf_counter(), time.process_time()
        moments = _arrivals(rate, seconds, random.Random(seed))
        following = next(moments, None)
        while following is not None or self._flying:
            now = time.perf_counter()
            while following is not None and began + following <= now:
                self._send(began + following)
                following = next(moments, None)
            self._give_up(now)
            await asyncio.sleep(TICK_SECONDS)
        self.outcome.cpu = (time.process_time() - spent) / (time.perf_counter() - began)
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(TICK_SECONDS)  # so that they are closed
        return self.outcome

    def answered(self, connection: "_Connection", status: int, retry: bool, reusable: bool) -> None:
        took = time.perf_counter() - connection.due
        connection.due = 0.0
        if status == 200 and took > self._deadline:
            self.outcome.gave_up += 1
        else:
            self.outcome.statuses[status] += 1
            (self.outcome.latencies if status == 200 else self.outcome.refused).append(took)
            self.outcome.with_retry_after += retry
        if reusable:
            self._idle.append(connection)

    def broke(self) -> None:
        self.outcome.broken += 1

    def _send(self, due: float) -> None:
        self.outcome.due += 1
        while self._idle:
            connection = self._idle.pop()
            if connection.send(due, self._bytes):
                self._flying.append((connection, due))
                self._count(due)
                return
        connection = _Connection(self)
        connection.due = due
        self._flying.append((connection, due))
        connection.connecting = asyncio.get_running_loop().create_task(self._connect(connection))

    async def _connect(self, connection: "_Connection") -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self._port)
        except OSError:
            connection.due = 0.0
            self.broke()
            return
        if connection.due:
            connection.send(connection.due, self._bytes)
            self._count(connection.due)
        else:
            connection.close()

    def _count(self, due: float) -> None:
        self.outcome.sent += 1
        self.outcome.sent_late += time.perf_counter() - due > LATE_SECONDS

    def _give_up(self, now: float) -> None:
        """They are in the order in which they were due; a connection may have another request under way by now."""
        while self._flying:
            connection, due = self._flying[0]
            if connection.due == due and now - due <= self._deadline:
                return
            self._flying.popleft()
            if connection.due == due:
                connection.due = 0.0
                self.outcome.gave_up += 1
                connection.close()


class _Connection(asyncio.Protocol):
    """One connection with one request at a time under way; `due` is 0 when there is none."""

    def __init__(self, client: Client) -> None:
        self._client, self._transport = client, None
        self._buffer = bytearray()
        self.due = 0.0
        self.connecting: asyncio.Task[None] | None = None  # held, or it may be collected before it is done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        if self.due:
            self.due = 0.0
            self._client.broke()

    def send(self, due: float, content: bytes) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self.due = due
        self._buffer.clear()
        self._transport.write(content)
        return True

    def data_received(self, data: bytes) -> None:
        if not self.due:
            return
        self._buffer += data
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        if not _is_whole(head, self._buffer, end + len(_END_OF_HEAD)):
            return
        reusable = b"connection: close" not in head
        self._client.answered(self, int(head[9:12]), b"retry-after:" in head, reusable)
        if not reusable:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _rendered(port: int, request: Request, deadline: float) -> bytes:
    """With the header by which this service is told a deadline; others do not know it."""
    headers = {
        "host": f"127.0.0.1:{port}",
        "content-type": request.content_type,
        "content-length": str(len(request.body)),
        "x-request-timeout-ms": str(round(deadline * 1000)),
        **request.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {request.path} HTTP/1.1\r\n{lines}\r\n".encode() + request.body


def _is_whole(head: bytes, buffer: bytearray, start: int) -> bool:
    if b"transfer-encoding: chunked" in head:
        return buffer.endswith(b"0\r\n\r\n")
    _, _, rest = head.partition(b"content-length:")
    return len(buffer) - start >= int(rest.split(b"\r\n", 1)[0] or 0)


def _arrivals(rate: float, seconds: float, chance: random.Random) -> Iterator[float]:
    moment = chance.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += chance.expovariate(rate)
