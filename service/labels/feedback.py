"""The body of POST /feedback: what turned out to be true, one row or many, read with everything named that is wrong."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

from contract.features import MOST_PROBLEMS, Problem, show
from service.errors import InvalidRequest, NotJSON, TooManyRows, UnsupportedMedia
from service.http.messages import JSON
from service.labels.labels import Feedback, Label
from service.wire import bodies

MOST_ITEMS = 50_000
LARGEST_ROW = 2**31
MOST_LABEL = 10_000

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_KEYS = frozenset({"request_id", "row", "label", "value"})
_TRUTHS = ("label", "value")


def read(body: bytes, media: bytes) -> list[Feedback]:
    """An object, {"feedback": [...]}, a list or JSON lines of {"request_id", "row", "label" or "value"}.

    `media` is the content type: it must be there, because browsers ask before they send one of these for a page of
    somebody else. Raises UnsupportedMedia, NotJSON, TooManyRows, or InvalidRequest with every problem.
    """
    items = list(_items(body, media))
    if len(items) > MOST_ITEMS:
        raise TooManyRows(f"{len(items)} items of feedback in one request, the limit is {MOST_ITEMS}")
    problems: list[Problem] = []
    found = [each for path, item in items if (each := _item(path, item, problems)) is not None]
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InvalidRequest(f"the feedback does not fit: {count}", problems[:MOST_PROBLEMS])
    return found


def _items(body: bytes, media: bytes) -> Iterator[tuple[str, Any]]:
    """Each with its path."""
    if media in bodies.LINES:
        for i, item in enumerate(bodies.read_lines(body, MOST_ITEMS)):
            yield f"lines[{i}]", item
        return
    if media != JSON:
        received = media.decode("latin-1")[:100] or "none"
        taken = ", ".join(["application/json", *(each.decode() for each in bodies.LINES)])
        raise UnsupportedMedia(f"expected the header content-type: application/json, got {received}; taken: {taken}")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJSON(f"the body is not JSON: {error}") from error
    several = document["feedback"] if isinstance(document, dict) and document.keys() == {"feedback"} else document
    if isinstance(several, dict) and several is document:
        yield "", several
    elif isinstance(several, list) and several:
        name = "" if several is document else "feedback"
        yield from ((f"{name}[{i}]", item) for i, item in enumerate(several))
    else:
        expected = 'an object such as {"request_id": "...", "label": ...}, or a list of at least one of them'
        raise InvalidRequest("the body is no feedback", [Problem("", "wrong type", expected, show(several))])


def _item(path: str, item: Any, problems: list[Problem]) -> Feedback | None:  # noqa: ANN401  # whatever JSON has
    """None where something is wrong, which is added to the problems."""
    before = len(problems)
    if not isinstance(item, dict):
        problems.append(
            Problem(path, "wrong type", 'an object such as {"request_id": "...", "label": ...}', show(item))
        )
        return None
    dot = f"{path}." if path else ""
    known = f"one of {', '.join(sorted(_KEYS))}"
    problems += [Problem(f"{dot}{key}"[:200], "unknown key", known, show(item[key])) for key in item.keys() - _KEYS]
    given, row = item.get("request_id"), item.get("row", 0)
    if not isinstance(given, str) or not _ID.fullmatch(given):
        received = show(given) if "request_id" in item else "nothing"
        problems.append(Problem(f"{dot}request_id", "is no request id", "that of the answer", received))
    if type(row) is not int or not 0 <= row < LARGEST_ROW:
        problems.append(Problem(f"{dot}row", "is no row", "a whole number from 0 on, or nothing", show(row)))
    label = _label(dot, item, problems)
    if len(problems) > before or label is None:
        return None
    return Feedback(dot, str(given), int(row), label)


def _label(dot: str, item: dict[str, Any], problems: list[Problem]) -> Label | None:
    named = [name for name in _TRUTHS if name in item]
    if len(named) != 1:
        received = "both" if named else "nothing"
        problems.append(Problem(f"{dot}label", "is not there once", "label, or value where it is a number", received))
        return None
    label = item[named[0]]
    if isinstance(label, bool):  # a class is called so in CSV and Parquet
        return str(label).lower()
    if isinstance(label, int | float) or (isinstance(label, str) and len(label) <= MOST_LABEL):
        return float(label) if isinstance(label, int) and abs(label) >= 2**63 else label
    problems.append(Problem(f"{dot}{named[0]}", "wrong type", "the name of a class, or a number", show(label)))
    return None
