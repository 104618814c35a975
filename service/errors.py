"""What a request can get wrong, and the one table that maps it to HTTP.

HornpipeError
├── RequestError
│   ├── NotJSON             the body does not parse
│   ├── InvalidRequest      the body is JSON of the wrong shape, or instances do not fit the features
│   │   └── TooManyRows
│   ├── UnknownModel        also when several serve and none is named
│   ├── UnknownVersion
│   ├── BodyTooLarge
│   ├── UnsupportedMedia
│   ├── WrongMethod
│   ├── Overloaded          full: come back after `retry_after` seconds
│   │   └── BuffersFull     too many bodies are being received at once
│   └── DeadlineExceeded    its time was over before it could run
└── NotReady                nothing serves yet
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


class UnknownModel(RequestError):
    """No model of that name serves here."""


class UnknownVersion(RequestError):
    """That version does not exist, or does not serve."""


class BodyTooLarge(RequestError):
    """More bytes than HORNPIPE_MAX_BODY_BYTES."""


class UnsupportedMedia(RequestError):
    """A content type or encoding that /predict does not read."""


class WrongMethod(RequestError):
    """The path exists, the method does not."""


class Overloaded(RequestError):
    """As many rows wait as may, or more than can be run in time."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BuffersFull(Overloaded):
    """The bodies that are being received fill their memory."""


class DeadlineExceeded(RequestError):
    """The client no longer waits for it, by its own word or the service's default."""


class ClientGone(Exception):
    """The client went away before its rows ran; there is nobody to answer."""


class NotReady(HornpipeError):
    """Still loading, refused, or shutting down."""

    retry_after = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the `code` in the error body."""

    status: int
    code: str


# The nearest class on an error's own list of bases decides. Whatever is not here is a defect of ours: 500.
ANSWERS: dict[type[HornpipeError], Answer] = {
    NotJSON: Answer(400, "not_json"),
    UnknownModel: Answer(404, "unknown_model"),
    UnknownVersion: Answer(404, "unknown_version"),
    WrongMethod: Answer(405, "method_not_allowed"),
    BodyTooLarge: Answer(413, "body_too_large"),
    UnsupportedMedia: Answer(415, "unsupported_media_type"),
    InvalidRequest: Answer(422, "invalid_request"),
    TooManyRows: Answer(422, "too_many_rows"),
    Overloaded: Answer(503, "overloaded"),
    DeadlineExceeded: Answer(504, "deadline_exceeded"),
    NotReady: Answer(503, "not_ready"),
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
