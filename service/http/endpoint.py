"""What the hot paths of all protocols share: an id, a deadline, the guard, the counts, and an answer whatever happens.

The guard is asked before the body is there: who may not ask cannot make us hold what he sends.

A protocol brings two functions: `handle` answers a call or raises an error of the service's tree, and `refuse` words
such an error as its clients expect it.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

from contract.errors import HornpipeError
from service.access.guard import Guard, describe
from service.counting.instruments import NO_MODEL, Outcome, Reason
from service.errors import (
    INTERNAL,
    BodyTooLarge,
    ClientGone,
    DeadlineExceeded,
    InvalidRequest,
    NotReady,
    Overloaded,
    RateLimited,
    RequestError,
    TooManyRows,
    WrongMethod,
    answer_to,
)
from service.http.call import Call, Ids, begin, read_headers, timeout_of
from service.http.cors import Cors
from service.http.messages import Header, Request, Response
from service.logs.journal import Journal
from service.metrics import Metrics

log = logging.getLogger("hornpipe.request")

# By what a canary is compared: who has made a mistake, or has gone, says nothing of a version.
_FAILED: frozenset[Outcome] = frozenset({"error", "rejected"})
_ANSWERED: frozenset[Outcome] = _FAILED | {"ok"}

# A body that is larger costs more to read than to refuse.
SMALL_BYTES = 4096


Handle = Callable[[Call], Awaitable[Response]]
Refuse = Callable[[Exception, Call, tuple[Header, ...]], Response]

_REASONS: dict[type[Exception], Reason] = {
    Overloaded: "overloaded",
    DeadlineExceeded: "deadline",
    BodyTooLarge: "body_too_large",
    TooManyRows: "too_many_rows",
    NotReady: "not_ready",
    RateLimited: "rate_limited",
}


@dataclass(frozen=True)
class Front:
    """What all endpoints share. `timeout` is the seconds that a request may take.

    `cors` is None where no web page of others may read anything. `refusal` says why a request that may take so many
    seconds need not be read.
    """

    metrics: Metrics
    ids: Ids
    timeout: float
    guard: Guard
    cors: Cors | None
    journal: Journal
    refusal: Callable[[float], HornpipeError | None]


class Endpoint:
    """A hot path. `route` is its template, by which its scope is found: what it needs to be answered a `method`."""

    def __init__(self, route: str, handle: Handle, refuse: Refuse, front: Front, method: str = "POST") -> None:
        self.route = route
        self._handle = handle
        self._refuse = refuse
        self._metrics = front.metrics
        self._metrics.declare(route)
        self._ids = front.ids
        self._timeout = front.timeout
        self._ask = front.guard.of(method, route)
        self._cors = front.cors
        self._journal = front.journal
        self._refusal = front.refusal if method == "POST" else None

    def admit(self, request: Request) -> HornpipeError | None:
        """Why a request may not pass, if it may not. Who is not asked here, before the body comes, is asked later."""
        if self._ask is not None:
            try:
                request.caller = self._ask(request.headers)
            except RequestError as error:
                return error
        if request.length > SMALL_BYTES and self._refusal is not None:
            return self._refusal(timeout_of(request, self._timeout))
        return None

    async def __call__(self, request: Request) -> Response:
        call = begin(request, self._ids, self._timeout)
        outcome: Outcome = "ok"
        try:
            if self._ask is not None and request.caller is None:
                request.caller = self._ask(request.headers)
            read_headers(call, self._timeout)
            response = await self._handle(call)
        except ClientGone:
            outcome, response = "gone", Response(499, b"")
        except Exception as error:  # whatever it is, the client gets an answer and the log gets the rest
            outcome, response = self._failed(error, call)
        return self._finish(call, outcome, response)

    def refuse(self, request: Request, error: HornpipeError) -> Response:
        """The answer to a request whose body is not read."""
        call = begin(request, self._ids, self._timeout)
        outcome, response = self._failed(error, call)
        return self._finish(call, outcome, response)

    def _finish(self, call: Call, outcome: Outcome, response: Response) -> Response:
        """What is done with every answer: count it, write it down, say who may read it. None of it keeps it back."""
        try:
            self._note(call, outcome, response)
        except Exception as defect:
            log.error("request %s was answered, but not noted", call.id, exc_info=defect)
        if self._cors is not None:
            response.headers += self._cors.headers(call.request.headers)
        return response

    def _note(self, call: Call, outcome: Outcome, response: Response) -> None:
        model = call.model.name if call.model else NO_MODEL
        self._metrics.request(model, self.route, outcome, perf_counter() - call.request.received)
        if call.arm is not None and outcome in _ANSWERED:
            call.arm.answered(failed=outcome in _FAILED)
        if outcome != "ok" or self._journal.eager:
            named = f"{call.model.name}/{call.model.version}" if call.model else ""
            self._journal.note(
                call.request, call.id, self.route, response.status, named, call.ran, failed=outcome != "ok"
            )

    def _failed(self, error: Exception, call: Call) -> tuple[Outcome, Response]:
        """The answer to an error, even to one that cannot be said in the words of the protocol."""
        if isinstance(error, RecursionError):
            error = InvalidRequest("lists and objects are nested too deeply")
        try:
            return self._worded(error, call)
        except Exception as defect:
            log.error("request %s failed: %s", call.id, type(error).__name__, exc_info=defect)
            return "error", Response(INTERNAL.status, b"", _headers(error, call))

    def _worded(self, error: Exception, call: Call) -> tuple[Outcome, Response]:
        status = answer_to(error).status
        if answer_to(error) is INTERNAL:
            log.error("request %s failed", call.id, exc_info=error)
        reason = next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), None)
        if reason is not None:
            self._metrics.rejected(call.model.name if call.model else NO_MODEL, reason)
        return _outcome(status), self._refuse(error, call, _headers(error, call))


def _headers(error: Exception, call: Call) -> tuple[Header, ...]:
    headers = [(b"x-request-id", call.id.encode())]
    if isinstance(error, WrongMethod):
        headers.append((b"allow", b"POST"))
    return (*headers, *describe(error))


def _outcome(status: int) -> Outcome:
    if status in (429, 503, 504):
        return "rejected"
    return "error" if status >= 500 else "invalid"
