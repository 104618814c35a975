"""What a request can get wrong, and the one table that maps it to HTTP.

HornpipeError
├── RequestError
│   ├── NotJSON             the body does not parse
│   ├── InvalidRequest      the body is JSON of the wrong shape, or instances do not fit the features
│   │   └── TooManyRows
│   ├── FeedbackOff         no prediction is kept that feedback could be of
│   ├── UnknownModel        also when several serve and none is named
│   ├── UnknownVersion
│   │   └── UnknownLabel
│   ├── BodyTooLarge
│   ├── UnsupportedMedia
│   ├── WrongMethod
│   ├── Unauthenticated     no key, or none that is known
│   ├── Forbidden           a key that may not do this
│   ├── RateLimited         more often than the key may ask
│   ├── MalformedHTTP       what came is no request that one may rely on
│   │   └── HeadTooLarge    its first line and headers have too many bytes
│   ├── TooSlow             the request did not arrive in time
│   ├── Overloaded          full: come back after `retry_after` seconds
│   │   ├── BuffersFull     too many bodies are being received at once
│   │   └── TooManyConnections
│   └── DeadlineExceeded    its time was over before it could run
└── NotReady                nothing serves yet
    └── LoadRefused         what was asked to be loaded did not load
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from os import urandom
from typing import Any

import orjson

from contract.errors import HornpipeError
from contract.features import Problem


class RequestError(HornpipeError):
    """The client can do something about it. `problems` says what is wrong where."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class NotJSON(RequestError):
    """The parser's complaint with its place."""


class InvalidRequest(RequestError):
    """Every problem at once."""


class TooManyRows(InvalidRequest):
    """More instances than HORNPIPE_MAX_ROWS."""


class FeedbackOff(RequestError):
    """No prediction is kept that feedback could be of."""


class JobsOff(RequestError):
    """There is no job table here."""


class UnknownJob(RequestError):
    """There is no job of that number."""


class JobConflict(RequestError):
    """The model has an open job already, or the job is in another state than the wish is for."""


class RoutingConflict(RequestError):
    """Who serves cannot be changed so: there is nothing to go back to, say, or the version is not sound."""


class VersionRefused(RoutingConflict):
    """The gate has refused the version. `problems` are the checks that it failed."""


class UnknownModel(RequestError):
    """No model of that name serves here."""


class UnknownVersion(RequestError):
    """That version does not exist, or does not serve."""


class UnknownLabel(UnknownVersion):
    """No version of the model has that label now."""


class BodyTooLarge(RequestError):
    """More bytes than HORNPIPE_MAX_BODY_BYTES."""


class UnsupportedMedia(RequestError):
    """A content type or encoding that /predict does not read."""


class WrongMethod(RequestError):
    """The path exists, the method does not."""


class Unauthenticated(RequestError):
    """No key, an unknown one, or one whose time is over. `challenge` is for the header www-authenticate."""

    challenge = b'Bearer realm="hornpipe"'


class Forbidden(RequestError):
    """The key is known, and may not do this."""


class RateLimited(RequestError):
    """The key has been used up for now."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class MalformedHTTP(RequestError):
    """Bytes that are no HTTP, or that two servers could read in two ways."""


class HeadTooLarge(MalformedHTTP):
    """The first line and the headers together are larger than any client needs."""


class TooSlow(RequestError):
    """The client took longer to send its request than HORNPIPE_RECEIVE_SECONDS."""


class Overloaded(RequestError):
    """As many rows wait as may, or more than can be run in time."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BuffersFull(Overloaded):
    """The bodies that are being received fill their memory."""


class TooManyConnections(Overloaded):
    """More than HORNPIPE_MAX_CONNECTIONS."""


class DeadlineExceeded(RequestError):
    """The client no longer waits for it, by its own word or the service's default."""


class ClientGone(Exception):
    """The client went away before its rows ran; there is nobody to answer."""


class NotReady(HornpipeError):
    """Still loading, refused, or shutting down."""

    retry_after = 1


class JobsUnavailable(NotReady):
    """The job table cannot be read or written now."""


class ModelsReadOnly(NotReady):
    """The models folder cannot be written."""


class LoadRefused(NotReady):
    """Somebody asked for a version to be loaded, and it did not load or prove itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the `code` in the error body."""

    status: int
    code: str


# The nearest class on an error's own list of bases decides. Whatever is not here is a defect of ours: 500.
ANSWERS: dict[type[HornpipeError], Answer] = {
    NotJSON: Answer(400, "not_json"),
    MalformedHTTP: Answer(400, "malformed_http"),
    Unauthenticated: Answer(401, "unauthenticated"),
    Forbidden: Answer(403, "forbidden"),
    FeedbackOff: Answer(404, "feedback_off"),
    JobsOff: Answer(404, "jobs_off"),
    UnknownJob: Answer(404, "unknown_job"),
    UnknownModel: Answer(404, "unknown_model"),
    UnknownVersion: Answer(404, "unknown_version"),
    UnknownLabel: Answer(404, "unknown_label"),
    WrongMethod: Answer(405, "method_not_allowed"),
    TooSlow: Answer(408, "too_slow"),
    JobConflict: Answer(409, "job_conflict"),
    RoutingConflict: Answer(409, "routing_conflict"),
    VersionRefused: Answer(409, "gate_refused"),
    BodyTooLarge: Answer(413, "body_too_large"),
    UnsupportedMedia: Answer(415, "unsupported_media_type"),
    InvalidRequest: Answer(422, "invalid_request"),
    TooManyRows: Answer(422, "too_many_rows"),
    RateLimited: Answer(429, "rate_limited"),
    HeadTooLarge: Answer(431, "head_too_large"),
    Overloaded: Answer(503, "overloaded"),
    BuffersFull: Answer(503, "buffers_full"),
    TooManyConnections: Answer(503, "too_many_connections"),
    DeadlineExceeded: Answer(504, "deadline_exceeded"),
    JobsUnavailable: Answer(503, "jobs_unavailable"),
    ModelsReadOnly: Answer(503, "models_read_only"),
    NotReady: Answer(503, "not_ready"),
}
# What gRPC calls each of these statuses (grpc.io/docs/guides/status-codes), by number: without gRPC installed there are
# no names for them.
GRPC_CODES: dict[int, int] = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    409: 9,  # FAILED_PRECONDITION
    413: 8,  # RESOURCE_EXHAUSTED
    415: 3,  # INVALID_ARGUMENT
    422: 3,  # INVALID_ARGUMENT
    429: 8,  # RESOURCE_EXHAUSTED
    431: 8,  # RESOURCE_EXHAUSTED
    500: 13,  # INTERNAL
    503: 14,  # UNAVAILABLE
    504: 4,  # DEADLINE_EXCEEDED
}
NOT_FOUND = Answer(404, "not_found")
INTERNAL = Answer(500, "internal_error")


def answer_to(error: BaseException) -> Answer:
    """The row of the table for an error."""
    for kind in type(error).__mro__:
        if kind in ANSWERS:
            return ANSWERS[kind]
    return INTERNAL


def body_of(error: BaseException, request_id: str) -> tuple[int, bytes]:
    """The status and the error body. Of an internal error the client learns nothing but the id."""
    answer = answer_to(error)
    message = "internal error" if answer is INTERNAL else str(error)
    return answer.status, body(answer, message, request_id, getattr(error, "problems", ()))


def body(answer: Answer, message: str, request_id: str, problems: Sequence[Problem] = ()) -> bytes:
    """`{"error": {"code", "message", "details"}, "request_id"}`."""
    error: dict[str, Any] = {"code": answer.code, "message": message, "details": problems}
    return orjson.dumps({"error": error, "request_id": request_id})


def misfit(name: str, version: int, problems: Sequence[Problem]) -> InvalidRequest:
    """Every problem of a request with a model's features."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return InvalidRequest(f"the request does not fit {name}/{version}: {count}", problems)


class RequestIds:
    """Ids that no other process gives: a random prefix and a counter, cheaper than a UUID a request."""

    def __init__(self) -> None:
        self._prefix = urandom(6).hex()
        self._numbers = count(1)

    def next(self) -> str:
        return f"{self._prefix}-{next(self._numbers):x}"
