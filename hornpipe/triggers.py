"""What has a model trained again by itself, and what would be decided about that now."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.retrain import Retrain

# Of the history, so many decisions are shown.
MOST_TOLD = 5


def triggers(options: argparse.Namespace) -> int:
    """Of the version in production. Raises RoutingError or BundleError where there is none."""
    from pydantic import ValidationError

    from contract import bundle, routing
    from contract.errors import RoutingError
    from contract.retrain import Retrain

    production = routing.read(options.models, options.name).production
    if production is None:
        raise RoutingError(f"{options.name} has no version in production, whose config says when to train again")
    section = bundle.read_version(options.models, options.name, production).manifest.config.get("retrain")
    if section is None:
        print(f"{options.name}/{production}: its config has no [retrain]: nothing but a person asks for a job")
        return 0
    try:
        retrain = Retrain.model_validate(section)
    except ValidationError as error:
        raise RoutingError(f"[retrain] of {options.name}/{production} is not understood here: {error}") from error
    print(f"{options.name}/{production}")
    for name, said in (*_wishes(retrain), ("now", _now(options, retrain))):
        print(f"  {name:<11} {said}")
    _tell(options.models, options.name, retrain)
    return 0


def _wishes(retrain: Retrain) -> Iterator[tuple[str, str]]:
    from contract.trigger import upcoming

    if (at := upcoming(retrain, datetime.now(UTC))) is not None:
        yield "schedule", f"{retrain.schedule} in {retrain.timezone}, next at {retrain.said(at)}"
    if retrain.on_drift:
        yield "on_drift", "every drift alert" if retrain.on_drift is True else ", ".join(retrain.on_drift)
    if retrain.on_labels is not None:
        yield "on_labels", f"{retrain.on_labels} rows with a new label"
    if (wanted := retrain.on_quality) is not None:
        yield "on_quality", f"{wanted.metric} worse than {wanted.bound:g}, of {wanted.rows} labelled rows at least"
    yield "cooldown", retrain.cooldown
    yield "most_a_day", str(retrain.most_a_day)
    if retrain.quiet_hours is not None:
        yield "quiet_hours", f"{retrain.quiet_hours} in {retrain.timezone}"


def _now(options: argparse.Namespace, retrain: Retrain) -> str:
    """What would be answered to new evidence."""
    from contract.jobs import opened
    from contract.trigger import Evidence, decide

    with opened(options.jobs) as table:
        jobs = table.newest(options.name, most=500)
    decision = decide(retrain, jobs, datetime.now(UTC), Evidence("labels", "", ""))
    if decision.asks:
        return f"a job would be asked for; {decision.why or 'it may begin at once'}"
    return f"no job would be asked for: {decision.why}"


def _tell(models: Path, name: str, retrain: Retrain) -> None:
    """What was decided last, the newest first."""
    from contract import routing

    decided = [each for each in routing.history(models, name) if each.action in routing.DECISIONS]
    for event in decided[-MOST_TOLD:][::-1]:
        action = event.action.replace("_", " ")
        print(f"  {retrain.said(event.at)}  {action:<9}  {event.by:<8}  {event.why}")
