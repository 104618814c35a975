"""Which version of a model is production, and how it came to be.

`routing.json` is replaced in one rename; `history.jsonl` is only ever appended to. Both lie beside the versions, so a
copy of the folder carries them along.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contract import bundle
from contract.errors import RoutingError

ROUTING = "routing.json"
HISTORY = "history.jsonl"

# `passed` and `refused` are the gate's verdicts on a new version; they change no traffic.
Action = Literal["promote", "rollback", "passed", "refused"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Canary(_Part):
    """A version that gets `percent` of the traffic."""

    version: int = Field(ge=1)
    percent: float = Field(gt=0, le=100)


class Routing(_Part):
    """Which version gets the traffic; None where none does."""

    production: int | None = None
    canary: Canary | None = None
    shadow: int | None = None


class Event(_Part):
    """One line of the history."""

    at: AwareDatetime
    action: Action
    from_version: int | None = Field(alias="from")
    to_version: int = Field(alias="to")
    by: str
    why: str


def read(models: Path, name: str) -> Routing:
    """The routing of a model; all None where there is no file. Raises RoutingError when the file is not a routing."""
    try:
        return Routing.model_validate_json((models / name / ROUTING).read_bytes())
    except FileNotFoundError:
        return Routing()
    except (OSError, ValidationError) as error:
        raise RoutingError(f"{models / name / ROUTING} cannot be read: {error}") from error


def history(models: Path, name: str) -> list[Event]:
    """Every change of a model's routing, the oldest first. A last line that a crash cut short is not an event."""
    path = models / name / HISTORY
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [Event.model_validate_json(line) for line in lines if line.endswith("\n")]


def promote(models: Path, name: str, version: int, *, by: str, why: str) -> Routing:
    """Make a version production. It is verified first: raises BundleError, or RoutingError where it does not exist."""
    _require(models, name, version)
    bundle.verify(bundle.read_version(models, name, version))
    with bundle.locked(models / name):
        return _change(models, name, "promote", version, by, why)


def require_passed(models: Path, name: str, version: int) -> None:
    """Raises RoutingError with the gate's reasons where it refused this version."""
    _require(models, name, version)
    verdict = bundle.read_version(models, name, version).manifest.verdict
    if verdict is not None and not verdict.passed:
        reasons = "\n".join(f"  {reason.check}: {reason.detail}" for reason in verdict.reasons if not reason.passed)
        raise RoutingError(f"the gate refused {name}/{version}:\n{reasons}\nto promote it all the same: --force")


def rollback(models: Path, name: str, *, by: str, why: str) -> Routing:
    """Give production back to the version that had it before the present one was promoted.

    Raises RoutingError when there is none, or its folder is gone.
    """
    if not bundle.versions(models, name):
        raise RoutingError(f"there is no model {name!r} in {models}")
    with bundle.locked(models / name):
        current = read(models, name).production
        previous = _before(history(models, name), current)
        if previous is None:
            raise RoutingError(f"{name} has no earlier production version to go back to")
        _require(models, name, previous)
        bundle.verify(bundle.read_version(models, name, previous))
        return _change(models, name, "rollback", previous, by, why)


def _before(events: list[Event], current: int | None) -> int | None:
    for event in reversed(events):
        if event.action == "promote" and event.to_version == current and event.from_version != current:
            return event.from_version
    return None


def _require(models: Path, name: str, version: int) -> None:
    there = bundle.versions(models, name)
    if not there:
        raise RoutingError(
            f"there is no model {name!r} in {models}; models: {', '.join(bundle.names(models)) or 'none'}"
        )
    if version not in there:
        raise RoutingError(f"{name} has no version {version}; versions: {', '.join(map(str, there))}")


def judged(models: Path, name: str, version: int, *, passed: bool, by: str, why: str) -> None:
    """Note the gate's verdict on a version in the history; who serves stays as it is."""
    with bundle.locked(models / name):
        _note(models, name, "passed" if passed else "refused", version, by, why)


def _change(models: Path, name: str, action: Action, version: int, by: str, why: str) -> Routing:
    after = read(models, name).model_copy(update={"production": version})
    # History first: a crash in between leaves a line too many, which can be seen, and not a change nobody wrote down.
    _note(models, name, action, version, by, why)
    bundle.replace_file(models / name / ROUTING, after.model_dump_json().encode() + b"\n")
    return after


def _note(models: Path, name: str, action: Action, version: int, by: str, why: str) -> None:
    before = read(models, name).production
    event = Event(at=datetime.now(UTC), action=action, from_version=before, to_version=version, by=by, why=why)
    _append(models / name / HISTORY, event.model_dump_json(by_alias=True))


def _append(path: Path, line: str) -> None:
    with path.open("a+b") as file:
        file.seek(0)
        # What a crash left of a line is cut off, so that ours stands alone. Append mode writes at the new end.
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
