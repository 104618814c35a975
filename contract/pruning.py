"""Old versions go: what nobody can want any more, by number, once a newer one serves."""

import shutil
import time
from pathlib import Path

from contract import bundle, routing
from contract.errors import BundleError, RoutingError
from contract.promotion import promotion_of

# A dot: it is no version any more, whatever becomes of its files.
REMOVED_PREFIX = ".removed-"


def prune(models: Path, name: str, keep: int, *, by: str, why: str, dry_run: bool = False) -> list[int]:
    """Remove all but the newest `keep` versions, and return the numbers of those that went, or would.

    What serves in any role stays, and the version that a rollback would lead to. So does whatever is newer than
    production, or the canary where that is older: it may be on its way. A version leaves by one rename; its files go
    afterwards. Raises RoutingError where there is no such model.
    """
    if keep < 1:
        raise RoutingError(f"at least one version must be kept, got {keep}")
    if not bundle.versions(models, name):
        raise RoutingError(f"there is no model {name!r} in {models}")
    with bundle.locked(models / name):
        gone = _superfluous(models, name, keep)
        if dry_run:
            return gone
        for version in gone:
            routing.note(models, name, "removed", version, by, why)
            (models / name / str(version)).rename(models / name / f"{REMOVED_PREFIX}{version}-{time.time_ns():x}")
    for left in (models / name).glob(f"{REMOVED_PREFIX}*"):  # also what a killed process has left
        shutil.rmtree(left, ignore_errors=True)
    return gone


def keep_by_policy(models: Path, name: str, *, by: str) -> list[int]:
    """Prune as the config of the production version says; nothing where it says nothing, or nothing serves."""
    production = routing.read(models, name).production
    if production is None:
        return []
    try:
        policy = promotion_of(bundle.read_version(models, name, production).manifest.config)
    except BundleError:  # by a policy that cannot be read nothing goes
        return []
    if policy.keep is None:
        return []
    return prune(models, name, policy.keep, by=by, why=f"promotion.keep = {policy.keep}")


def _superfluous(models: Path, name: str, keep: int) -> list[int]:
    """Ascending."""
    now, there = routing.read(models, name), bundle.versions(models, name)
    if now.production is None:
        return []
    oldest_on_its_way = min(now.production, now.canary.version if now.canary else now.production)
    wanted = {*_in_any_role(now), routing.before(routing.history(models, name), now.production), *there[-keep:]}
    return [version for version in there if version < oldest_on_its_way and version not in wanted]


def _in_any_role(now: routing.Routing) -> set[int | None]:
    """Also while they are unloaded."""
    return {now.production, now.canary.version if now.canary else None, now.shadow, *now.pinned}
