"""What is done with a version that was trained: introduced to traffic by the policy in its config, and the oldest ones
go."""

from pathlib import Path

from contract import introduction, pruning
from contract.bundle import Bundle
from contract.introduction import Introduced


def introduce(models: Path, made: Bundle, by: str) -> Introduced | None:
    """None of a version that the gate refused; nothing is introduced twice, nor by one job twice.

    Raises RoutingError or BundleError where the model's folder is not sound, OSError where it cannot be written.
    """
    manifest = made.manifest
    if manifest.verdict is not None and not manifest.verdict.passed:
        return None
    introduced = introduction.introduce(models, manifest.name, manifest.version, by=by)
    pruning.keep_by_policy(models, manifest.name, by=by)
    return introduced
