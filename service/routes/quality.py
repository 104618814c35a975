"""GET /models/{name}/quality: what the answers were worth, by version and by day of prediction."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from contract import bundle
from service.errors import NotReady, UnknownVersion
from service.labels.labelled import Labelled, LabelsError
from service.quality.quality import Manifests, Quality, quality
from service.quality.rows import DAY_SECONDS, collected, days
from service.quality.watch import Answered
from service.quality.words import summary
from service.state import state_of

log = logging.getLogger("hornpipe.quality")

MOST_DAYS = 366
UNLOGGED = "No predictions are kept here: set HORNPIPE_PREDICTIONS_DIR, and send labels to POST /feedback."

router = APIRouter(prefix="/models", tags=["models"])


class Day(Quality):
    """The rows that were predicted on a day of UTC."""

    day: date


class Answers(BaseModel):
    """What all answers of the last 24 hours let expect, by all workers, whether they are kept or not."""

    rows: int
    estimates: dict[str, float]


class VersionQuality(Quality):
    """A version's rows together, and by day, the latest first. `rows_left_out` are older ones, of very many."""

    version: int
    summary: str
    rows_left_out: int
    answered: Answers | None
    days: list[Day]


class QualityReport(BaseModel):
    """The quality of a model's versions, the newest first."""

    model: str
    since: datetime
    until: datetime
    logged: bool = Field(description="Whether predictions are kept: without that, there is nothing but `answered`.")
    versions: list[VersionQuality]


@router.get("/{name}/quality", summary="Quality of a model's answers")
async def model_quality(
    request: Request,
    name: str,
    version: Annotated[int | None, Query(ge=1, description="Without it, every version with rows.")] = None,
    within: Annotated[
        int, Query(ge=1, le=MOST_DAYS, alias="days", description="So many days back, by the time of prediction.")
    ] = 7,
) -> QualityReport:
    """What came true, where labels have come, beside what was estimated without them and what training promised."""
    state = state_of(request.app)
    answered = [each for each in state.quality.answered(name) if version in (None, each.manifest.version)]
    models = state.settings.models_dir
    if version is not None and version not in await asyncio.to_thread(bundle.versions, models, name):
        raise UnknownVersion(f"there is no version {version} of a model {name[:64]!r} here")
    now = time.time()
    labelled = state.kept.labelled if state.kept is not None else None
    found: list[VersionQuality] = []
    if labelled is not None:
        found = await asyncio.to_thread(_by_version, labelled, Manifests(models), name, version, now, within, answered)
    there = {each.version for each in found}
    found += [_unlogged(each, labelled is not None, within) for each in answered if each.manifest.version not in there]
    return QualityReport(
        model=name,
        since=_time(now - within * DAY_SECONDS),
        until=_time(now),
        logged=labelled is not None,
        versions=sorted(found, key=lambda each: -each.version),
    )


def _by_version(
    labelled: Labelled,
    manifests: Manifests,
    model: str,
    version: int | None,
    now: float,
    within: int,
    answered: Sequence[Answered],
) -> list[VersionQuality]:
    """Of what is logged. Raises NotReady when it cannot be read."""
    try:
        rows = collected(labelled.joined(model, now - within * DAY_SECONDS, version=version))
    except LabelsError as error:
        log.error("the labels cannot be read: %s", error)
        raise NotReady("the labels cannot be read at the moment; see the service's log") from error
    found = []
    for number, (mine, left_out) in rows.items():
        of, total = manifests.of(model, number), quality(mine, manifests.of(model, number))
        found.append(
            VersionQuality(
                **dict(total),
                version=number,
                summary=summary(total, _when(within)),
                rows_left_out=left_out,
                answered=_answers(number, answered),
                days=[Day(**dict(quality(each, of)), day=_time(day * DAY_SECONDS).date()) for day, each in days(mine)],
            )
        )
    return found


def _unlogged(answered: Answered, logged: bool, within: int) -> VersionQuality:
    """Of a version of which no row is in the log."""
    nothing = Quality(rows=0, labelled=0, labelled_share=None, label_delay_seconds=None, metrics={})
    return VersionQuality(
        **dict(nothing),
        version=answered.manifest.version,
        summary=summary(nothing, _when(within)) if logged else UNLOGGED,
        rows_left_out=0,
        answered=Answers(rows=answered.rows, estimates=answered.estimates),
        days=[],
    )


def _answers(version: int, answered: Sequence[Answered]) -> Answers | None:
    mine = [each for each in answered if each.manifest.version == version]
    return Answers(rows=mine[0].rows, estimates=mine[0].estimates) if mine else None


def _when(days: int) -> str:
    return "in the last day" if days == 1 else f"in the last {days} days"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
