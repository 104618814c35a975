"""One request on its way through the service: whose it is, how long it may take, which model it came to."""

import re
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol

from contract.problem import Problem
from service.errors import InvalidRequest
from service.http.messages import Request

if TYPE_CHECKING:
    from service.canary.counting import Arm
    from service.logs.tracing import Ran
    from service.versions.loaded import LoadedModel

Priority = Literal["interactive", "batch"]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_MILLISECONDS = re.compile(rb"[0-9]{1,9}")
_PRIORITIES: dict[bytes, Priority] = {b"interactive": "interactive", b"batch": "batch"}


class Ids(Protocol):
    """Gives request ids."""

    def next(self) -> str: ...


class Call:
    """`deadline` is in perf_counter's seconds; `key` decides, where traffic is split, which version answers.

    `model` is set once it is known. `decoding` is when work on the body began, `ran` when its rows were queued and run,
    where somebody wants to know. `arm` is where its answer is counted that a canary is compared by, where there is one.
    """

    __slots__ = ("arm", "deadline", "decoding", "id", "key", "model", "priority", "ran", "request")

    def __init__(self, request: Request, request_id: str, deadline: float, priority: Priority, key: bytes) -> None:
        self.request = request
        self.id = request_id
        self.deadline = deadline
        self.priority = priority
        self.key = key
        self.model: LoadedModel | None = None
        self.arm: Arm | None = None
        self.decoding = request.received
        self.ran: Ran | None = None

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return self.request.gone


def begin(request: Request, ids: Ids, timeout: float) -> Call:
    """A call for a request, with its id, deadline and priority; `timeout` seconds are the default and the most."""
    key = request.headers.get(b"x-request-id", b"")
    call = Call(request, request_id(request, ids), request.received + timeout, "interactive", key)
    call.decoding = perf_counter()
    return call


def request_id(request: Request, ids: Ids) -> str:
    """The client's own where it sends one that can be written down anywhere, else a new one."""
    given = request.headers.get(b"x-request-id")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else ids.next()


def timeout_of(request: Request, timeout: float) -> float:
    """The seconds that a request may take by its headers; the most where they say nothing, or nonsense."""
    wanted = request.headers.get(b"x-request-timeout-ms")
    if wanted is None or not _MILLISECONDS.fullmatch(wanted):
        return timeout
    return min(int(wanted) / 1000, timeout)


def read_headers(call: Call, timeout: float) -> None:
    """Take deadline, priority and key from the headers. Raises InvalidRequest that names every wrong one."""
    headers, problems = call.request.headers, []
    if (wanted := headers.get(b"x-request-timeout-ms")) is not None:
        if _MILLISECONDS.fullmatch(wanted):
            call.deadline = call.request.received + min(int(wanted) / 1000, timeout)
        else:
            problems.append(_wrong("x-request-timeout-ms", "a whole number of milliseconds", wanted))
    if (priority := headers.get(b"x-request-priority")) is not None:
        if priority in _PRIORITIES:
            call.priority = _PRIORITIES[priority]
        else:
            problems.append(_wrong("x-request-priority", "interactive or batch", priority))
    if (key := headers.get(b"x-request-key")) is not None:
        call.key = key
    if problems:
        raise InvalidRequest("a header does not fit", problems)


def _wrong(name: str, expected: str, received: bytes) -> Problem:
    return Problem(f"header {name}", "wrong value", expected, received[:60].decode("latin-1"))
