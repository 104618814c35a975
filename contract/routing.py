"""Which versions of a model answer whom, and how it came to be.

`routing.json` is replaced in one rename; `history.jsonl` is only ever appended to. Both lie beside the versions, so a
copy of the folder carries them along, and every process that serves the folder goes by the same word.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contract import bundle
from contract.errors import GateRefused, RoutingError, RoutingUnreadable

ROUTING = "routing.json"
HISTORY = "history.jsonl"

# A file that somebody wrote by hand may wish for much; each pinned version takes memory.
MOST_PINNED = 100

# `passed` and `refused` are the gate's verdicts on a new version, `held` says that a version which passed waits for a
# person, `removed` that its folder is gone, `asked` and `not_asked` what was decided about training again; they change
# no traffic.
Action = Literal[
    "promote",
    "rollback",
    "canary",
    "canary_off",
    "shadow",
    "shadow_off",
    "pin",
    "unpin",
    "load",
    "unload",
    "passed",
    "refused",
    "held",
    "removed",
    "asked",
    "not_asked",
]
# About training again.
DECISIONS: tuple[Action, ...] = ("asked", "not_asked")
Role = Literal["production", "canary", "shadow", "pinned"]

Version = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Canary(_Part):
    """A version that gets `percent` of the traffic. One that is `watched` gets more of it, or none, by what the service
    finds; the share of any other is what a person has said."""

    version: Version
    percent: float = Field(gt=0, le=100)
    watched: bool = False


class Routing(_Part):
    """Which version gets the traffic; None where none does.

    The shadow gets a copy of what production answers, and answers nobody. Pinned versions answer those who ask for
    them by number. `unloaded` says that none of them is to be loaded, for now.
    """

    production: Version | None = None
    canary: Canary | None = None
    shadow: Version | None = None
    pinned: tuple[Version, ...] = Field(default=(), max_length=MOST_PINNED)
    unloaded: bool = False

    def roles(self) -> dict[int, tuple[Role, ...]]:
        """What each version that is to be loaded is there for; production first."""
        found: dict[int, tuple[Role, ...]] = {}
        wishes: list[tuple[int | None, Role]] = [
            (self.production, "production"),
            (self.canary.version if self.canary else None, "canary"),
            (self.shadow, "shadow"),
            *((version, "pinned") for version in self.pinned),
        ]
        for version, role in wishes:
            if version is not None and not self.unloaded:
                found[version] = (*found.get(version, ()), role)
        return found

    def words(self) -> str:
        """In one line: production 3, canary 4 (5%), shadow none, pinned 1, 2."""
        watched = ", watched" if self.canary and self.canary.watched else ""
        canary = f"{self.canary.version} ({self.canary.percent:g}%{watched})" if self.canary else "none"
        pinned = ", ".join(map(str, self.pinned)) or "none"
        words = f"production {self.production or 'none'}, canary {canary}, shadow {self.shadow or 'none'}"
        return f"{words}, pinned {pinned}" + (", unloaded" if self.unloaded else "")


class Event(_Part):
    """One line of the history: `from` is production as it was, `to` the version that the action is about."""

    at: AwareDatetime
    action: Action
    from_version: int | None = Field(alias="from")
    to_version: int | None = Field(alias="to")
    by: str
    why: str
    percent: float | None = None


def read(models: Path, name: str) -> Routing:
    """The routing of a model; all None where there is no file. Raises RoutingUnreadable when it is none."""
    try:
        return Routing.model_validate_json((models / name / ROUTING).read_bytes())
    except FileNotFoundError:
        return Routing()
    except (OSError, ValidationError) as error:
        raise RoutingUnreadable(f"{models / name / ROUTING} cannot be read: {error}") from error


def history(models: Path, name: str) -> list[Event]:
    """Every change of a model's routing, the oldest first. A last line that a crash cut short is not an event. Raises
    RoutingUnreadable that names the first line which is none."""
    path = models / name / HISTORY
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RoutingUnreadable(f"{path} cannot be read: {error}") from error
    return [_event(path, number, line) for number, line in enumerate(lines, start=1)]


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        return Event.model_validate_json(line)
    except ValidationError as error:
        raise RoutingUnreadable(f"{path}, line {number} is no event: {error}") from error


def promote(models: Path, name: str, version: int, *, by: str, why: str) -> Routing:
    """Make a version production. It is verified first: raises BundleError, or RoutingError where it does not exist."""
    _verified(models, name, version)
    with bundle.locked(models / name):
        return _give_production(models, name, "promote", version, by, why)


def require_passed(models: Path, name: str, version: int) -> None:
    """Raises GateRefused with the gate's reasons where it refused this version."""
    require(models, name, version)
    verdict = bundle.read_version(models, name, version).manifest.verdict
    if verdict is not None and not verdict.passed:
        raise GateRefused(name, version, [reason for reason in verdict.reasons if not reason.passed])


def rollback(models: Path, name: str, *, by: str, why: str) -> Routing:
    """Give production back to the version that had it before the present one was promoted.

    Raises RoutingError when there is none, or its folder is gone.
    """
    if not bundle.versions(models, name):
        raise RoutingError(f"there is no model {name!r} in {models}")
    with bundle.locked(models / name):
        current = read(models, name).production
        previous = before(history(models, name), current)
        if previous is None:
            raise RoutingError(f"{name} has no earlier production version to go back to")
        _verified(models, name, previous)
        return _give_production(models, name, "rollback", previous, by, why)


def canary(
    models: Path, name: str, version: int, percent: float, *, by: str, why: str, watched: bool = False
) -> Routing:
    """Give a version `percent` of the traffic that asks for none in particular, or another percentage than it has.

    Raises BundleError as `promote` does, or RoutingError where there is no production version beside it.
    """
    if not 0 < percent <= 100:
        raise RoutingError(f"a canary gets more than 0 and at most 100 percent of the traffic, got {percent:g}")
    _verified(models, name, version)
    with bundle.locked(models / name):
        _require_production(models, name, version, "canary")
        given = Canary(version=version, percent=percent, watched=watched)
        return _change(models, name, "canary", version, by, why, percent, canary=given)


def canary_off(models: Path, name: str, *, by: str, why: str) -> Routing:
    """Give all traffic to production again. Raises RoutingError where there is no canary."""
    with _held(models, name):
        current = read(models, name).canary
        if current is None:
            raise RoutingError(f"{name} has no canary")
        return _change(models, name, "canary_off", current.version, by, why, canary=None)


def go_on(models: Path, name: str, seen: Canary, percent: float | None, *, by: str, why: str) -> Routing:
    """Give a canary another share, or with None production, if it still is as it was seen. Raises BundleError as
    `promote` does, or RoutingError where somebody has changed it meanwhile."""
    _verified(models, name, seen.version)
    with bundle.locked(models / name):
        _still(models, name, seen)
        if percent is None:
            return _give_production(models, name, "promote", seen.version, by, why)
        after = seen.model_copy(update={"percent": percent})
        return _change(models, name, "canary", seen.version, by, why, percent, canary=after)


def give_up(models: Path, name: str, seen: Canary, *, by: str, why: str) -> Routing:
    """Take a canary's share back, if it still is as it was seen. Raises RoutingError as `go_on` does."""
    with _held(models, name):
        _still(models, name, seen)
        return _change(models, name, "canary_off", seen.version, by, why, canary=None)


def give(models: Path, name: str, version: int, percent: float | None, *, by: str, why: str) -> Routing:
    """Make a sound version the watched canary, or with None production, in place of any other watched canary. For who
    holds the model's folder."""
    if percent is not None:
        given = Canary(version=version, percent=percent, watched=True)
        return _change(models, name, "canary", version, by, why, percent, canary=given)
    other = read(models, name).canary
    if other is not None and other.watched:
        return _change(models, name, "promote", version, by, why, production=version, canary=None)
    return _give_production(models, name, "promote", version, by, why)


def shadow(models: Path, name: str, version: int, *, by: str, why: str) -> Routing:
    """Let a version answer a copy of what production answers, for nobody but the metrics. Raises as `canary` does."""
    _verified(models, name, version)
    with bundle.locked(models / name):
        _require_production(models, name, version, "shadow")
        return _change(models, name, "shadow", version, by, why, shadow=version)


def shadow_off(models: Path, name: str, *, by: str, why: str) -> Routing:
    """Raises RoutingError where there is no shadow."""
    with _held(models, name):
        current = read(models, name).shadow
        if current is None:
            raise RoutingError(f"{name} has no shadow")
        return _change(models, name, "shadow_off", current, by, why, shadow=None)


def pin(models: Path, name: str, version: int, *, by: str, why: str) -> Routing:
    """Keep a version loaded for those who ask for it by number. Raises BundleError as `promote` does, or
    RoutingError where so many are pinned already."""
    _verified(models, name, version)
    with bundle.locked(models / name):
        pinned = {*read(models, name).pinned, version}
        if len(pinned) > MOST_PINNED:
            raise RoutingError(f"{name} has {MOST_PINNED} pinned versions already, and may have no more")
        return _change(models, name, "pin", version, by, why, pinned=tuple(sorted(pinned)))


def unpin(models: Path, name: str, version: int, *, by: str, why: str) -> Routing:
    """Raises RoutingError where the version is not pinned."""
    with _held(models, name):
        pinned = read(models, name).pinned
        if version not in pinned:
            raise RoutingError(f"{name}/{version} is not pinned; pinned: {', '.join(map(str, pinned)) or 'none'}")
        rest = tuple(each for each in pinned if each != version)
        return _change(models, name, "unpin", version, by, why, pinned=rest)


def unload(models: Path, name: str, *, by: str, why: str) -> Routing:
    """Let nothing of a model be loaded until `load` says otherwise; who is what stays written down."""
    with _held(models, name):
        return _change(models, name, "unload", None, by, why, unloaded=True)


def load(models: Path, name: str, *, by: str, why: str) -> Routing:
    """Take back `unload`."""
    with _held(models, name):
        return _change(models, name, "load", None, by, why, unloaded=False)


def before(events: list[Event], current: int | None) -> int | None:
    """The version that was production before this one was promoted: where a rollback leads."""
    for event in reversed(events):
        if event.action == "promote" and event.to_version == current and event.from_version != current:
            return event.from_version
    return None


@contextmanager
def _held(models: Path, name: str) -> Iterator[None]:
    """The model's folder for a change of its routing. Raises RoutingError where there is no such model."""
    _versions(models, name)
    with bundle.locked(models / name):
        yield


def _verified(models: Path, name: str, version: int) -> None:
    require(models, name, version)
    bundle.verify(bundle.read_version(models, name, version))


def _still(models: Path, name: str, seen: Canary) -> None:
    now = read(models, name).canary
    if now != seen:
        raise RoutingError(f"the canary of {name} is another than it was: {now or 'none'}")


def _require_production(models: Path, name: str, version: int, role: Role) -> None:
    production = read(models, name).production
    if production is None:
        raise RoutingError(f"{name} has no production version for a {role} to stand beside; promote one first")
    if production == version:
        raise RoutingError(f"{name}/{version} is production: a {role} is another version")


def _versions(models: Path, name: str) -> list[int]:
    there = bundle.versions(models, name)
    if not there:
        raise RoutingError(
            f"there is no model {name!r} in {models}; models: {', '.join(bundle.names(models)) or 'none'}"
        )
    return there


def require(models: Path, name: str, version: int) -> None:
    """Raises RoutingError, with those that are there, where the model has no such version."""
    there = _versions(models, name)
    if version not in there:
        raise RoutingError(f"{name} has no version {version}; versions: {', '.join(map(str, there))}")


def judged(models: Path, name: str, version: int, *, passed: bool, by: str, why: str) -> None:
    """Note the gate's verdict on a version in the history; who serves stays as it is."""
    with bundle.locked(models / name):
        note(models, name, "passed" if passed else "refused", version, by, why)


def _give_production(models: Path, name: str, action: Action, version: int, by: str, why: str) -> Routing:
    """A canary or shadow that becomes production has no more to show as such."""
    before = read(models, name)
    ends: dict[str, Any] = {}
    if before.canary is not None and before.canary.version == version:
        ends["canary"] = None
    if before.shadow == version:
        ends["shadow"] = None
    return _change(models, name, action, version, by, why, production=version, **ends)


def _change(
    models: Path,
    name: str,
    action: Action,
    version: int | None,
    by: str,
    why: str,
    percent: float | None = None,
    **update: Any,  # noqa: ANN401  # fields of Routing
) -> Routing:
    after = read(models, name).model_copy(update=update)
    # History first: a crash in between leaves a line too many, which can be seen, and not a change nobody wrote down.
    note(models, name, action, version, by, why, percent)
    # What is seldom there is left out where it is not, so that a Hornpipe which does not know it reads the rest.
    seldom: dict[str, Any] = {field: True for field in ("pinned", "unloaded") if not getattr(after, field)}
    if after.canary is not None and not after.canary.watched:
        seldom["canary"] = {"watched"}
    bundle.replace_file(models / name / ROUTING, after.model_dump_json(exclude=seldom).encode() + b"\n")
    return after


def note(
    models: Path, name: str, action: Action, version: int | None, by: str, why: str, percent: float | None = None
) -> None:
    """Add a line to the history of a model, whose folder is locked."""
    event = Event(
        at=datetime.now(UTC),
        action=action,
        from_version=read(models, name).production,
        to_version=version,
        by=by,
        why=why,
        percent=percent,
    )
    seldom = {"percent"} if percent is None else set()
    _append(models / name / HISTORY, event.model_dump_json(by_alias=True, exclude=seldom))


def _append(path: Path, line: str) -> None:
    with path.open("a+b") as file:
        file.seek(0)
        # What a crash left of a line is cut off, so that ours stands alone. Append mode writes at the new end.
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
