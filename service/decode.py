"""From the bytes of a request to its parts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from contract.features import MOST_PROBLEMS, Problem, show
from service.errors import BodyTooLarge, InvalidRequest, NotJSON, TooManyRows, UnsupportedMedia

Receive = Any  # ASGI's
JSON_TYPE = b"application/json"

_KEYS = frozenset({"instances", "model", "version"})


class ClientDisconnected(Exception):
    """The client went away while sending; there is nobody to answer."""


class PredictRequest(NamedTuple):
    """The body of POST /predict. `instances` is a list of anything; `problems` are those of the body around it."""

    instances: list[object]
    model: str | None
    version: int | None
    problems: list[Problem]


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], most: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as that is known, before the rest is read, or ClientDisconnected."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise BodyTooLarge(f"the body has {int(length)} bytes, the limit is {most}")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise BodyTooLarge(f"the body has more than {most} bytes")
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    if len(body) > most:
        raise BodyTooLarge(f"the body has {len(body)} bytes, the limit is {most}")
    return body


def check_media(headers: Mapping[bytes, bytes]) -> None:
    """Raises UnsupportedMedia for what is neither JSON nor plain. No content type at all is taken for JSON."""
    kind = headers.get(b"content-type", JSON_TYPE)
    if kind != JSON_TYPE and kind.split(b";")[0].strip().lower() != JSON_TYPE:
        received = kind.decode("latin-1")[:100]
        raise UnsupportedMedia(f"expected the header content-type: application/json, got {received}")
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise UnsupportedMedia(f"expected no content-encoding, got {encoding.decode('latin-1')[:100]}")


def parse(body: bytes, most_rows: int) -> PredictRequest:
    """Raises NotJSON, TooManyRows, or InvalidRequest where there are no instances to look at."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJSON(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        expected = 'an object such as {"instances": [{...}]}'
        raise InvalidRequest("the body is not a request", [Problem("", "wrong type", expected, show(request))])
    instances, model, version = request.get("instances"), request.get("model"), request.get("version")
    problems = [] if _KEYS.issuperset(request) else _unknown_keys(request)
    if model is not None and type(model) is not str:
        problems.append(Problem("model", "wrong type", "the name of a model, or nothing", show(model)))
        model = None
    if version is not None and (type(version) is not int or version < 1):
        problems.append(Problem("version", "wrong type", "a version number from 1 on, or nothing", show(version)))
        version = None
    if type(instances) is not list or not instances:
        received = show(instances) if "instances" in request else "nothing"
        problems.append(Problem("instances", "is not a list of rows", "a list of at least one object", received))
        raise InvalidRequest("the request has no instances", problems)
    if len(instances) > most_rows:
        raise TooManyRows(f"{len(instances)} instances in one request, the limit is {most_rows}")
    return PredictRequest(instances, model, version, problems)


def _unknown_keys(request: dict[str, object]) -> list[Problem]:
    expected = f"one of {', '.join(sorted(_KEYS))}"
    unknown = [key for key in request if key not in _KEYS]
    return [Problem(key[:100], "unknown key", expected, show(request[key])) for key in unknown[:MOST_PROBLEMS]]
