"""When a model is to be trained again without a person asking: the section `[retrain]` of a training config.

It travels in the manifest, so production's own words say when it is to be replaced.
"""

import re
from datetime import datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from contract.quality_interval import MEASURED

UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([mhd])")
_HOURS = re.compile(r"((?:[01]\d|2[0-3]):[0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d)")
# Of what may be asked for: every metric that labels give, of whatever task.
METRICS = tuple(dict.fromkeys(name for names in MEASURED.values() for name in names))


def seconds_of(text: str) -> float:
    """Of `90m`, `12h`, `7d`. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a number with m, h or d behind it, such as 12h, got {text!r}")
    return float(found[1]) * UNITS[found[2]]


def _duration(text: str) -> str:
    seconds_of(text)
    return text


def _schedule(text: str) -> str:
    expected = f"expected a cron expression of five fields such as '0 3 * * 1', got {text!r}"
    if len(text.split()) != 5:  # with a sixth, of seconds, it would no longer keep daylight saving as cron does
        raise ValueError(expected)
    try:
        if next(CronSim(text, datetime(2000, 1, 1)), None) is None:
            raise ValueError(f"{expected}, which never comes")
    except CronSimError as error:
        raise ValueError(f"{expected}: {error}") from error
    return text


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"expected a time zone such as Europe/Vienna, got {name!r}") from error
    return name


def _hours(text: str) -> str:
    found = _HOURS.fullmatch(text)
    if found is None or found[1] == found[2]:
        raise ValueError(f"expected two different times of day such as 08:00-18:00, got {text!r}")
    return text


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"expected one of {', '.join(METRICS)}, got {name!r}")
    return name


Duration = Annotated[str, AfterValidator(_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OnQuality(_Section):
    """A realised metric by labels that is worse than `bound`: below it, or above it where less is better. `rows` is how
    many labelled rows it must be of; its whole 95% interval has to lie beyond the bound."""

    metric: Annotated[str, AfterValidator(_metric)]
    bound: float
    rows: int = Field(default=500, ge=1)


class Retrain(_Section):
    """What asks for a job, and what holds it back.

    `schedule` is a cron expression in `timezone`. `on_drift` takes Alertmanager's word: true for every drift alert of
    the model, or the names of alerts. `on_labels` is how many rows have to get their label since the last job.
    After a job has ended, none is asked for during `cooldown`; `most_a_day` is how many are asked for in 24 hours. In
    `quiet_hours` (of `timezone`, as 08:00-18:00) a job is asked for, and begins when they are over.
    """

    schedule: Annotated[str, AfterValidator(_schedule)] | None = None
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    on_drift: bool | list[str] = False
    on_labels: int | None = Field(default=None, ge=1)
    on_quality: OnQuality | None = None
    cooldown: Duration = "6h"
    most_a_day: int = Field(default=2, ge=1)
    quiet_hours: Annotated[str, AfterValidator(_hours)] | None = None

    @property
    def cooldown_time(self) -> timedelta:
        """As a span of time."""
        return timedelta(seconds=seconds_of(self.cooldown))

    def quiet_at(self, at: datetime) -> bool:
        """Whether the quiet hours are on at an aware time, by the clocks on the wall; they may go over midnight."""
        found = _HOURS.fullmatch(self.quiet_hours or "")
        if found is None:
            return False
        begins, ends = map(time.fromisoformat, found.groups())
        now = at.astimezone(ZoneInfo(self.timezone)).time()
        return begins <= now < ends if begins < ends else now >= begins or now < ends

    def said(self, at: datetime) -> str:
        """An aware time as the clocks on the wall show it."""
        return f"{at.astimezone(ZoneInfo(self.timezone)):%Y-%m-%d %H:%M %Z}"

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Retrain":
        if self.schedule is None and not self.on_drift and self.on_labels is None and self.on_quality is None:
            raise ValueError("expected at least one of schedule, on_drift, on_labels, on_quality")
        return self
