"""From the bytes of a request to its parts."""

from typing import NamedTuple

import orjson

from contract.features import MOST_PROBLEMS, Problem, show
from service.errors import InvalidRequest, NotJSON, TooManyRows, UnsupportedMedia
from service.http import JSON, Request

_KEYS = frozenset({"instances", "model", "version"})


class PredictRequest(NamedTuple):
    """The body of POST /predict. `instances` is a list of anything; `problems` are those of the body around it."""

    instances: list[object]
    model: str | None
    version: int | None
    problems: list[Problem]


def check_media(request: Request) -> None:
    """Raises UnsupportedMedia for what is neither JSON nor plain. No content type at all is taken for JSON."""
    if request.headers.get(b"content-type", JSON) != JSON and request.media != JSON:
        received = request.headers[b"content-type"].decode("latin-1")[:100]
        raise UnsupportedMedia(f"expected the header content-type: application/json, got {received}")
    encoding = request.headers.get(b"content-encoding", b"identity")
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
