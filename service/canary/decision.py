"""What follows for a canary from what is known: on to the next step, back, or to wait, and for what."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from contract.promotion import Promotion
from contract.routing import Canary, Event
from service.canary.evidence import Evidence
from service.canary.measures import Measure

# A process that dies may have been killed; so many, and it is what they had in common.
MOST_DEATHS = 3


@dataclass(frozen=True)
class Trial:
    """One canary beside one production version. `since` is when it began, `step_since` its present step: both are in
    the history, so a restart changes neither."""

    name: str
    production: int
    canary: Canary
    since: datetime
    step_since: datetime

    @property
    def key(self) -> str:
        """The same for every process that serves the folder, and for no other trial."""
        return f"{self.canary.version}-beside-{self.production}-{self.since:%Y%m%dT%H%M%S.%f}"

    @property
    def step(self) -> str:
        return f"{self.step_since:%Y%m%dT%H%M%S.%f}"


@dataclass(frozen=True)
class Stay:
    """`missing` is what it waits for."""

    missing: tuple[str, ...]


@dataclass(frozen=True)
class GoOn:
    """`percent` is None for production."""

    percent: float | None
    why: str


@dataclass(frozen=True)
class GoBack:
    """All traffic is production's again."""

    why: str


Decision = Stay | GoOn | GoBack


def trial(name: str, production: int, canary: Canary, events: Sequence[Event]) -> Trial | None:
    """By the lines of the history; None where they do not have it, because somebody wrote the routing by hand. When
    production changes, canary and all, it begins anew."""
    version: int | None = None
    since = step_since = datetime.min
    for event in events:
        if event.action == "canary":
            since = since if event.to_version == version else event.at
            version, step_since = event.to_version, event.at
        elif event.action == "canary_off" or (event.action == "promote" and event.to_version == version):
            version = None
        elif event.action in ("promote", "rollback"):
            since = step_since = event.at
    return Trial(name, production, canary, since, step_since) if version == canary.version else None


def decide(
    trial: Trial,
    policy: Promotion,
    evidence: Evidence,
    found: Sequence[Measure],
    now: datetime,
    *,
    refused: str | None = None,
    deaths: int = 0,
) -> Decision:
    """`evidence` is of the present step, `refused` why the version does not load, `deaths` how many processes have died
    while it was on."""
    if trial.production > trial.canary.version:
        return GoBack(f"version {trial.production}, which is newer, is production")
    if refused is not None:
        return GoBack(f"it does not load: {refused}")
    if deaths >= MOST_DEATHS:
        return GoBack(f"{deaths} processes of the service have died while it was on")
    worse = [measure for measure in found if measure.worse]
    if worse:
        return GoBack("; ".join(f"{measure.name}: {measure.words}" for measure in worse))
    missing = _missing(trial, policy, evidence, now)
    if missing:
        return Stay(missing)
    after = policy.after(trial.canary.percent)
    said = f"{evidence.canary.requests} requests in {_minutes(trial, now):.1f} minutes at {trial.canary.percent:g}%"
    return GoOn(after, f"no worse than version {trial.production} by {said}: {_summary(found)}")


def _missing(trial: Trial, policy: Promotion, evidence: Evidence, now: datetime) -> tuple[str, ...]:
    said = []
    requests = policy.min_requests - evidence.canary.requests
    if not evidence.canary.requests:
        said.append(f"no request has come to it in this step; {requests} are needed")
    elif requests > 0:
        said.append(f"{requests} more requests")
    minutes = policy.min_minutes - _minutes(trial, now)
    if minutes > 0:
        said.append(f"{minutes:.1f} more minutes")
    return tuple(said)


def _minutes(trial: Trial, now: datetime) -> float:
    return (now - trial.step_since).total_seconds() / 60


def _summary(found: Sequence[Measure]) -> str:
    return "; ".join(f"{measure.name}: {measure.words}" for measure in found if measure.certain is not None)
