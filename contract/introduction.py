"""How a version that the gate has passed is introduced to traffic, by the policy in its config: once, however often the
job that made it is done again.

Whatever is decided is a line of the history. A person's word counts for more than the policy: what somebody has set up
by hand is left as it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contract import bundle, routing
from contract.manifest import Manifest
from contract.promotion import Promotion, promotion_of
from contract.routing import Event, Routing

# What gives a version traffic, and what changes who has it.
INTRODUCES = ("promote", "canary")
CHANGES = ("promote", "rollback", "canary", "canary_off")


@dataclass(frozen=True)
class Introduced:
    """What became of it: `before` is of one that had been introduced already, and nothing was changed."""

    did: Literal["promoted", "canary", "held", "before"]
    why: str


def introduce(models: Path, name: str, version: int, *, by: str) -> Introduced:
    """Do with a version what the policy in its config says: `by` is a person, or the job that made it.

    Raises BundleError or RoutingError where it is not sound, and OSError where the folder cannot be written.
    """
    made = bundle.read_version(models, name, version)
    bundle.verify(made)
    policy = promotion_of(made.manifest.config)
    with bundle.locked(models / name):
        events, now = routing.history(models, name), routing.read(models, name)
        decided = _before(events, now, version, by) or _decided(now, made.manifest, policy)
        _do(models, now, made.manifest, policy, decided, by)
    return decided


def _before(events: list[Event], now: Routing, version: int, by: str) -> Introduced | None:
    """A job that was killed is done again, and may make the same version or another. A line in the history whose change
    never came about, because its writer was killed in between, does not count."""
    for place, event in reversed(list(enumerate(events))):
        same_job = by.startswith("job ") and event.by == by
        if event.to_version is None or not (event.to_version == version or same_job):
            continue
        said = f"{event.by} has done so at {event.at:%Y-%m-%d %H:%M}: {event.action} {event.to_version}"
        if event.action == "held":
            return Introduced("before", said)
        overtaken = any(later.action in CHANGES for later in events[place + 1 :])
        if event.action in INTRODUCES and (overtaken or _in_effect(now, event.to_version)):
            return Introduced("before", said)
    return None


def _in_effect(now: Routing, version: int) -> bool:
    return version in (now.production, now.canary.version if now.canary else None)


def _decided(now: Routing, made: Manifest, policy: Promotion) -> Introduced:
    version, production = made.version, now.production
    by_hand = f"hornpipe promote {made.name} {version}"
    if policy.policy == "manual":
        return Introduced("held", f"promotion is manual: {by_hand}")
    if production is None:
        return Introduced("promoted", "nothing serves yet that it could be compared with")
    if production > version:
        return Introduced("held", f"version {production}, which is newer, serves by now; all the same: {by_hand}")
    if policy.policy == "direct":
        return _directly(made, production, by_hand)
    return _carefully(now, made, policy, by_hand)


def _directly(made: Manifest, production: int, by_hand: str) -> Introduced:
    against = made.verdict.against if made.verdict is not None else production
    if against != production:
        compared = f"the gate compared it with {f'version {against}' if against else 'nothing'}"
        return Introduced("held", f"{compared}, and version {production} serves by now; all the same: {by_hand}")
    return Introduced("promoted", f"it passed the gate against version {production}, and promotion is direct")


def _carefully(now: Routing, made: Manifest, policy: Promotion, by_hand: str) -> Introduced:
    first, other = policy.steps[0], now.canary
    if other is not None and not other.watched:
        asking = f"hornpipe canary {made.name} {made.version} --watched"
        return Introduced("held", f"version {other.version} is a canary by hand; instead of it: {asking}, or {by_hand}")
    if other is not None and other.version > made.version:
        return Introduced("held", f"version {other.version}, which is newer, is the canary; all the same: {by_hand}")
    instead = f", instead of version {other.version}, which is older" if other is not None else ""
    return Introduced("canary", f"it passed the gate: {first:g}% of the traffic for now{instead}")


def _do(models: Path, now: Routing, made: Manifest, policy: Promotion, decided: Introduced, by: str) -> None:
    name, version = made.name, made.version
    if decided.did == "held":
        routing.note(models, name, "held", version, by, decided.why)
    elif decided.did != "before":
        if now.canary is not None and now.canary.watched:
            routing.note(models, name, "canary_off", now.canary.version, by, f"version {version}, which is newer, came")
        given = None if decided.did == "promoted" else policy.steps[0]
        routing.give(models, name, version, given, by=by, why=decided.why)
