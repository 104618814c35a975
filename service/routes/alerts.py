"""POST /jobs/alerts: Alertmanager's webhook.

Alertmanager tries again, with growing pauses, after an answer of 5xx or none; after one of 4xx it gives up until its
group's next turn. So what a repetition could mend is 503, a body that is none of Alertmanager's is 4xx, and alerts from
which nothing follows are answered one by one, with 200.
"""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from contract.jobs import JobError
from service.errors import JobsOff, JobsUnavailable
from service.retraining.alerts import Concern, Heard, Notification, sorted_out
from service.retraining.asking import Asking
from service.routes import body
from service.state import state_of

log = logging.getLogger("hornpipe.retraining")

router = APIRouter(prefix="/jobs", tags=["jobs"])


def _schema() -> dict[str, Any]:
    """Of the body, in one piece: what refers to its own definitions would find none in the whole document."""
    schema = Notification.model_json_schema()
    schema["properties"]["alerts"]["items"] = schema.pop("$defs")["Alert"]
    return schema


_BODY = body.described(_schema())


class Answer(BaseModel):
    """What became of each alert, in their order."""

    alerts: list[Heard]
    truncated: int = Field(description="Alerts that Alertmanager has left out, of which nothing is known.")


@router.post("/alerts", summary="Alertmanager's webhook", openapi_extra=_BODY)
async def alerts(request: Request) -> Answer:
    """Ask for retraining where an alert rings that the model's config wants to be asked for, and nothing holds it back.
    The label `model` says which model; the same alert may come as often as it likes."""
    state = state_of(request.app)
    if state.retraining is None:
        raise JobsOff("no jobs are kept here: HORNPIPE_JOBS_FILE is not set")
    told = body.read(Notification, await request.body(), "this is no body of Alertmanager's webhook, version 4")
    if told.truncated_alerts:
        log.warning("Alertmanager has left out %d alerts; raise its max_alerts", told.truncated_alerts)
    heard, concerns = sorted_out(told.alerts, state.registry)
    caller = getattr(request.state, "caller", None) or "POST /jobs/alerts"
    if concerns:
        heard |= await asyncio.to_thread(_decided, state.retraining.asking, concerns, caller)
    return Answer(alerts=[heard[place] for place in sorted(heard)], truncated=told.truncated_alerts)


def _decided(asking: Asking, concerns: list[Concern], caller: str) -> dict[int, Heard]:
    """On a thread. Raises JobsUnavailable; what was asked for by then is found again when the same comes once more."""
    heard: dict[int, Heard] = {}
    try:
        with asking.table() as table:
            for concern in concerns:
                heard |= concern.heard(asking.ask(table, concern.wish, concern.evidence(), caller))
    except JobError as error:
        log.warning("an alert could not be answered: %s", error)
        raise JobsUnavailable("the job table cannot be read or written now") from error
    return heard
