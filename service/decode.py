"""From a request of the service's own protocol to its parts: which model, and which instances."""

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from contract.features import MOST_PROBLEMS, Problem, show
from service.errors import InvalidRequest, NotJSON, TooManyRows
from service.http.messages import JSON, Request
from service.wire import dense

_KEYS = frozenset({"instances", "model", "version", "label", "warnings"})
_IN_QUERY = ("model", "version", "label", "warnings")
_IN_HEADERS = {b"x-model": "model", b"x-model-version": "version", b"x-model-label": "label"}
_VERSION = re.compile(r"[0-9]{1,18}")


class Target(NamedTuple):
    """Which model is meant; what is None is left to the registry. Whether its predictions shall carry warnings."""

    name: str | None = None
    version: int | None = None
    label: str | None = None
    warnings: bool = False


ANY = Target()


class PredictRequest(NamedTuple):
    """The body of POST /predict. `instances` is a list of anything; `problems` are those of the body around it.

    Where `dense` is true, dense lists in the instances are Numbers.
    """

    instances: Any
    target: Target
    problems: list[Problem]
    dense: bool


def is_json(request: Request) -> bool:
    """Whether the body is JSON. No content type at all is taken for it."""
    return request.headers.get(b"content-type", JSON) == JSON or request.media in (JSON, b"")


def target_of(request: Request) -> Target:
    """Which model the query and the headers name; the query decides. Raises InvalidRequest with what does not fit."""
    headers = request.headers
    if b"?" not in request.target and headers.keys().isdisjoint(_IN_HEADERS):
        return ANY
    given = {name: headers[key].decode("latin-1") for key, name in _IN_HEADERS.items() if key in headers}
    problems: list[Problem] = []
    if request.query:
        for name, value in parse_qsl(request.query.decode("latin-1"), keep_blank_values=True, max_num_fields=100):
            if name in _IN_QUERY:
                given[name] = value
            else:
                expected = f"one of {', '.join(_IN_QUERY)}"
                problems.append(Problem(f"query {name[:100]}", "unknown key", expected, show(value)))
    version = given.get("version")
    if version is not None and not _VERSION.fullmatch(version):
        problems.append(Problem("query version", "wrong value", "a version number from 1 on", show(version)))
    warnings = given.get("warnings", "false")
    if warnings not in ("true", "false"):
        problems.append(Problem("query warnings", "wrong value", "true or false", show(warnings)))
    if problems:
        raise InvalidRequest("the request does not fit", problems)
    return Target(given.get("model"), int(version) if version else None, given.get("label"), warnings == "true")


def parse(body: bytes, most_rows: int, *, careful: bool = False) -> PredictRequest:
    """Raises NotJSON, TooManyRows, or InvalidRequest where there are no instances to look at.

    Dense lists become Numbers unless it is to be `careful`.
    """
    request = None if careful else dense.read(body)
    is_dense = request is not None
    if request is None:
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise NotJSON(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        expected = 'an object such as {"instances": [{...}]}'
        raise InvalidRequest("the body is not a request", [Problem("", "wrong type", expected, _show(request))])
    instances = request.get("instances")
    problems = [] if _KEYS.issuperset(request) else _unknown_keys(request)
    target = _target(request, problems)
    if type(instances) is dense.Numbers:
        return PredictRequest(instances, target, problems, dense=True)
    if type(instances) is not list or not instances:
        received = show(instances) if "instances" in request else "nothing"
        problems.append(Problem("instances", "is not a list of rows", "a list of at least one object", received))
        raise InvalidRequest("the request has no instances", problems)
    if len(instances) > most_rows:
        raise TooManyRows(f"{len(instances)} instances in one request, the limit is {most_rows}")
    return PredictRequest(instances, target, problems, is_dense)


def _target(request: dict[str, object], problems: list[Problem]) -> Target:
    name, version, label = request.get("model"), request.get("version"), request.get("label")
    warnings = request.get("warnings")
    if name is version is label is warnings is None:
        return ANY
    if name is not None and type(name) is not str:
        problems.append(Problem("model", "wrong type", "the name of a model, or nothing", _show(name)))
        name = None
    if version is not None and (type(version) is not int or version < 1):
        problems.append(Problem("version", "wrong type", "a version number from 1 on, or nothing", _show(version)))
        version = None
    if label is not None and type(label) is not str:
        problems.append(Problem("label", "wrong type", "a label such as canary, or nothing", _show(label)))
        label = None
    if warnings is not None and type(warnings) is not bool:
        problems.append(Problem("warnings", "wrong type", "true or false, or nothing", _show(warnings)))
        warnings = None
    return Target(name, version, label, warnings or False)


def _unknown_keys(request: dict[str, object]) -> list[Problem]:
    expected = f"one of {', '.join(sorted(_KEYS))}"
    unknown = [key for key in request if key not in _KEYS]
    return [Problem(key[:100], "unknown key", expected, _show(request[key])) for key in unknown[:MOST_PROBLEMS]]


def _show(value: object) -> str:
    return "a list of numbers" if type(value) is dense.Numbers else show(value)
