"""A row of the job table as a Job, also one that an older or newer Hornpipe wrote.

A table outlives the version that made it, and while machines are brought up to date several versions share one. What
this one does not understand must be seen, and must neither be done by halves nor stop anybody else's job.
"""

import json
import sqlite3
from typing import Any

from pydantic import ValidationError

from contract.job import REFUSALS, STATES, Job, Order, Progress, Refusal


def job_of(row: sqlite3.Row) -> Job:
    """Never raises for what a row holds: `unread` then says what this Hornpipe does not understand."""
    order, unread = _order(row["model"], row["wish"])
    state = row["state"]
    if state not in STATES:
        state, unread = "failed", f"state: {state!r} is none that is known here"
    return Job(
        id=row["id"],
        state=state,
        order=order,
        attempts=row["attempts"],
        asked_at=row["asked_at"],
        not_before=row["not_before"],
        worker=row["worker"],
        token=row["token"],
        lease_until=row["lease_until"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cancelling=bool(row["cancelling"]),
        progress=_progress(row["progress"]),
        result=_result(row["result"]),
        error=row["error"],
        refusal=refusal_of(row["refusal"]) if state == "refused" else None,
        unread=unread,
    )


def refusal_of(said: str | None) -> Refusal:
    """By the gate where nothing is said: there was a time when it alone refused."""
    return next((each for each in REFUSALS if each == said), "gate")


def _order(model: str, text: str) -> tuple[Order, str | None]:
    """The order; or what can be understood of it, to be looked at, and what cannot."""
    try:
        return Order.model_validate_json(text), None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        unread = f"{'.'.join(map(str, first['loc'])) or 'order'}: {first['msg']}"
    kept: dict[str, Any] = {"config": "-", "cause": "person", "asked_by": "", "why": ""}
    for field, value in _fields(text).items():
        if field in Order.model_fields and _fits(kept | {"model": "a", field: value}):
            kept[field] = value
    return Order(**kept | {"model": model if _fits(kept | {"model": model}) else "unknown"}), unread


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _fits(values: dict[str, Any]) -> bool:
    try:
        Order(**values)
    except ValidationError:
        return False
    return True


def _progress(text: str) -> Progress:
    try:
        return Progress.model_validate_json(text)
    except ValidationError:
        return Progress()


def _result(text: str | None) -> dict[str, Any] | None:
    return None if text is None else _fields(text)
