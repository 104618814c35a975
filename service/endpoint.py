"""What the hot paths of all protocols share: an id, a deadline, the guard, the counts, and an answer whatever happens.

A protocol brings two functions: `handle` answers a call or raises an error of the service's tree, and `refuse` words
such an error as its clients expect it.
"""

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Protocol

from contract.errors import HornpipeError
from service.call import Call, Ids, begin, read_headers
from service.errors import (
    INTERNAL,
    BodyTooLarge,
    ClientGone,
    DeadlineExceeded,
    NotReady,
    Overloaded,
    TooManyRows,
    WrongMethod,
    answer_to,
)
from service.http import Header, Request, Response
from service.metrics import NO_MODEL, Metrics, Outcome, Reason

log = logging.getLogger("hornpipe.request")

_NOBODY = Response(499, b"")

Handle = Callable[[Call], Awaitable[Response]]
Refuse = Callable[[Exception, Call, tuple[Header, ...]], Response]

_REASONS: dict[type[Exception], Reason] = {
    Overloaded: "overloaded",
    DeadlineExceeded: "deadline",
    BodyTooLarge: "body_too_large",
    TooManyRows: "too_many_rows",
    NotReady: "not_ready",
}


class Guard(Protocol):
    """Who may ask, and how often."""

    def admit(self, call: Call) -> None:
        """Raises a RequestError for who may not."""


class Endpoint:
    """A hot path. `timeout` is the seconds that a request may take."""

    def __init__(
        self,
        route: str,
        handle: Handle,
        refuse: Refuse,
        metrics: Metrics,
        ids: Ids,
        timeout: float,
        guard: Guard | None,
    ) -> None:
        self.route = route
        self._handle = handle
        self._refuse = refuse
        self._metrics = metrics
        self._ids = ids
        self._timeout = timeout
        self._guard = guard

    async def __call__(self, request: Request) -> Response:
        call = begin(request, self._ids, self._timeout)
        outcome: Outcome = "ok"
        try:
            read_headers(call, self._timeout)
            if self._guard is not None:
                self._guard.admit(call)
            response = await self._handle(call)
        except ClientGone:
            outcome, response = "gone", _NOBODY
        except Exception as error:  # whatever it is, the client gets an answer and the log gets the rest
            outcome, response = self._failed(error, call)
        self._count(call, outcome)
        return response

    def refuse(self, request: Request, error: HornpipeError) -> Response:
        """The answer to a request whose body is not read."""
        call = begin(request, self._ids, self._timeout)
        outcome, response = self._failed(error, call)
        self._count(call, outcome)
        return response

    def _count(self, call: Call, outcome: Outcome) -> None:
        model = call.model.name if call.model else NO_MODEL
        self._metrics.request(model, self.route, outcome, perf_counter() - call.request.received)

    def _failed(self, error: Exception, call: Call) -> tuple[Outcome, Response]:
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
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers.append((b"retry-after", str(seconds).encode()))
    return tuple(headers)


def _outcome(status: int) -> Outcome:
    if status in (429, 503, 504):
        return "rejected"
    return "error" if status >= 500 else "invalid"
