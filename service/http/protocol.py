"""HTTP below ASGI: Uvicorn's own protocol, which answers the hot paths itself and hands everything else to the app.

What a request costs is mostly what lies between the socket and the model. ASGI's scope, events and two sends take as
long as parsing, encoding and running a small network together (benchmarks/NOTES.md), so a path that is in the dispatch
table is answered by one call: a whole request in, a whole response out. Parsing, keep-alive, pipelining, flow control
and shutting down stay Uvicorn's: an `Exchange` takes the place of its request-response cycle.

Nothing that a client sends may hold on to memory or a connection for ever: a body is refused before it is read where
that is possible, all bodies that are being received have one budget, and `expire` closes what stands still.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from contract.errors import HornpipeError
from service.errors import BodyTooLarge, BuffersFull, TooManyConnections, TooSlow
from service.http.messages import Request, Response
from service.http.steps import Crowd, Steps
from service.http.strict import StrictProtocol

# A larger body that is refused is not read to its end, for the sake of the next request on its connection.
MOST_DROPPED = 64 * 2**20


# glibc keeps what such a body and all that was made of it has taken: see `Server`.
LARGE = 2**20

_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class HotEndpoint(Protocol):
    """Answers whole requests. None of the calls raises."""

    def admit(self, request: Request) -> HornpipeError | None:
        """Why a request may not pass, of which only the head is there."""

    def __call__(self, request: Request) -> Coroutine[Any, Any, Response]: ...

    def refuse(self, request: Request, error: HornpipeError) -> Response:
        """What to say when the request is refused before its body was read."""


class Dispatch(Protocol):
    """Which endpoint answers a path, if it is a hot one."""

    def find(self, method: bytes, path: bytes) -> HotEndpoint | None: ...


@dataclass
class Limits:
    """What all connections share: limits in bytes and seconds, and the turn in which they begin."""

    body: int
    buffered: int
    receive: float
    idle: float
    connections: int
    buffering: int = 0
    large: int = 0  # bytes of large bodies since memory was last given back
    unsent: int = 0
    crowd: Crowd = field(default_factory=Crowd)
    defaults: bytes = b""  # the headers of every response, renewed as the date goes on


class _NobodyWaits:
    """Uvicorn wakes a cycle's reader by an event; an exchange has no reader."""

    def set(self) -> None:
        """Nobody waits."""


class Exchange:
    """A request that is being received or answered; Uvicorn sees in it a cycle of its own."""

    __slots__ = (
        "endpoint",
        "keep_alive",
        "more_body",
        "parts",
        "queued",
        "refused",
        "request",
        "response_complete",
        "size",
        "steps",
    )
    message_event = _NobodyWaits()

    def __init__(self, endpoint: HotEndpoint, request: Request, keep_alive: bool, queued: bool) -> None:
        self.endpoint = endpoint
        self.request = request
        self.keep_alive = keep_alive
        self.queued = queued  # behind another one on the same connection
        self.more_body = True
        self.response_complete = False
        self.refused: HornpipeError | None = None  # while it was queued
        self.parts: list[bytes] = []
        self.size = 0
        self.steps: Steps | None = None

    @property
    def disconnected(self) -> bool:
        return self.request.gone

    @disconnected.setter
    def disconnected(self, gone: bool) -> None:
        self.request.gone = gone


class HotProtocol(StrictProtocol):
    """One connection."""

    def __init__(self, dispatch: Dispatch, limits: Limits, **of_uvicorn: Any) -> None:  # noqa: ANN401  # its own
        super().__init__(**of_uvicorn)
        self._dispatch = dispatch
        self._limits = limits
        self._exchange: Exchange | None = None  # whose body is being received
        self._quiet_since = self.loop.time()
        self._receiving = False
        self._stuck_since: float | None = None
        self._unsent = 0

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  # asyncio's
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self.give_up(TooManyConnections("too many connections; try again shortly"))

    # What the parser finds

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.current = None
        self.in_head = self._receiving = True
        self._quiet_since = self.loop.time()

    def on_headers_complete(self) -> None:
        self.check_head()
        if self.upgrades:
            return
        method, url = self.parser.get_method(), self.url
        endpoint = self._dispatch.find(method, url.partition(b"?")[0])
        busy = self.cycle is not None and not self.cycle.response_complete
        if endpoint is None:
            self._exchange = None
            self._begin_asgi(busy)
            self.current = self.cycle
            return
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        request = Request(method.decode("ascii"), url, self.headers)
        request.peer = self.client
        if b"transfer-encoding" in request.headers:
            self.check_coding(request.headers)
        # Who is not told to go on may send the body or the next request: what comes then can be read in two ways.
        exchange = Exchange(endpoint, request, keep_alive and not self.expect_100_continue, busy)
        self._exchange = self.cycle = self.current = exchange  # type: ignore[assignment]  # see Exchange
        if busy:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))
        elif (error := endpoint.admit(request)) is not None:
            self._refuse(exchange, error)
            return
        if request.length > self._limits.body:
            self._refuse(
                exchange, BodyTooLarge(f"the body has {request.length} bytes, the limit is {self._limits.body}")
            )
        elif self.expect_100_continue and not busy:
            self.transport.write(_GO_ON)
            exchange.keep_alive = keep_alive

    def on_body(self, body: bytes) -> None:
        self.went_on = True
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
        elif not exchange.response_complete and exchange.refused is None:  # else the rest is read to be dropped
            exchange.parts.append(body)
            exchange.size += len(body)
            self._limits.buffering += len(body)
            if exchange.size > self._limits.body:
                self._refuse(exchange, BodyTooLarge(f"the body has more than {self._limits.body} bytes"))
            elif self._limits.buffering > self._limits.buffered:
                self._refuse(exchange, BuffersFull("too many bodies are being received; try again shortly"))

    def on_message_complete(self) -> None:
        if self.upgrades:
            return
        self._receiving, self.current = False, None
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
            return
        exchange.more_body = False
        if not exchange.queued and not exchange.response_complete:
            self._start(exchange)

    def _begin_asgi(self, busy: bool) -> None:
        """Let Uvicorn make of the head what it would have made; it begins anew, so what was parsed is kept.

        Who expects to be told to go on is told so at once: an app may answer without a look at the body.
        """
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        if expects and not busy:
            self.transport.write(_GO_ON)
            expects = False
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    # Answering

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401  # Uvicorn's
        """Called by Uvicorn too, for what waited behind another request."""
        self.running = cycle
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
            return
        cycle.queued = False
        if cycle.refused is not None:
            self._refuse(cycle, cycle.refused)
        elif not cycle.more_body:
            self._start(cycle)

    def _start(self, exchange: Exchange) -> None:
        parts = exchange.parts
        if exchange.size > LARGE:
            self._limits.large += exchange.size
        exchange.request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._drop_parts(exchange)
        self.running = exchange
        exchange.steps = Steps(exchange.endpoint(exchange.request), partial(self._write, exchange))
        self._limits.crowd.add(exchange.steps)

    def _refuse(self, exchange: Exchange, error: HornpipeError) -> None:
        """Answer before the body is there; the rest of it is read and dropped."""
        self._drop_parts(exchange)
        if exchange.queued:  # its turn to be answered has not come
            exchange.refused = error
        else:
            if exchange.request.length > MOST_DROPPED:
                exchange.keep_alive = False
            self._write(exchange, exchange.endpoint.refuse(exchange.request, error))

    def _write(self, exchange: Exchange, response: Response) -> None:
        transport, request, content = self.transport, exchange.request, response.content
        if transport.is_closing():
            return
        named = b"%s: %s\r\n" * len(response.headers) % tuple(chain.from_iterable(response.headers))
        answer = b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
            STATUS_LINE[response.status],
            self._limits.defaults,
            response.media,
            len(content),
            named,
            b"" if exchange.keep_alive else b"connection: close\r\n",
            content if request.method != "HEAD" else b"",
        )
        transport.write(answer)
        exchange.response_complete = True
        exchange.steps = self.running = None
        request.body = b""  # an idle connection holds on to its last exchange
        if not exchange.keep_alive:
            transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """As Uvicorn's, but without a timer for each request: `expire` looks at all connections once a second."""
        self._quiet_since = self.loop.time()
        self.server_state.total_requests += 1
        if not self.transport.is_closing() and not self.flow.write_paused:
            self._go_on()

    def _go_on(self) -> None:
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    # What stands still, and what ends

    def expire(self, now: float) -> None:
        """Close the connection when its client has not gone on for too long; `now` is the loop's time."""
        waits_for_us = self.cycle is not None and not self.cycle.response_complete and not self._receiving
        if self._stuck_since is not None and now - self._stuck_since > self._limits.receive:
            self.transport.abort()  # it does not read our answer
        elif self._receiving and not self.flow.read_paused and now - self._quiet_since > self._limits.receive:
            self._end_receiving()
        elif not self._receiving and not waits_for_us and now - self._quiet_since > self._limits.idle:
            self.transport.close()

    def _end_receiving(self) -> None:
        if self.current is not None and self.current.response_complete:
            self.transport.close()
        else:
            self.give_up(TooSlow(f"the request did not arrive within {self._limits.receive:g} s"))

    def pause_writing(self) -> None:
        """The client does not read as fast as we write: until it does, it is not asked for more, nor served more."""
        super().pause_writing()
        self._stuck_since = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()
        self._limits.unsent += self._unsent
        if self._limits.unsent > self._limits.buffered:
            self.transport.abort()
        else:
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._sent()
        if self.running is None or self.running.response_complete:
            self._go_on()
        else:
            self.flow.resume_reading()

    def _sent(self) -> None:
        self._stuck_since = None
        self._limits.unsent -= self._unsent
        self._unsent = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._sent()
        for exchange in (self.running, self._exchange, *(cycle for cycle, _ in self.pipeline)):
            if isinstance(exchange, Exchange):
                exchange.request.gone = True
                self._drop_parts(exchange)
        super().connection_lost(exc)

    def _drop_parts(self, exchange: Exchange) -> None:
        self._limits.buffering -= exchange.size
        exchange.parts, exchange.size = [], 0
