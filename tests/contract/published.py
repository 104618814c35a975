"""Versions on disk that nobody has trained: sound bundles, for what only looks at folders."""

from pathlib import Path

from contract import bundle
from contract.evidence import Reason, Verdict
from tests.service.untrained import table

NAME = "flights"


def publish(models: Path, *, against: int | None = None, passed: bool = True, **promotion: object) -> int:
    """The next version of flights, which the gate has compared with `against`; [promotion] is in its config."""
    reason = Reason(check="headline", passed=passed, detail="as good" if passed else "worse by far")
    changes = {
        "config": {"promotion": promotion} if promotion else {},
        "verdict": Verdict(passed=passed, against=against, reasons=(reason,)),
    }
    with bundle.staged(models, NAME) as staging:
        (staging / "a").write_bytes(b"a network")
        made = bundle.publish(staging, lambda version: table(NAME, version).model_copy(update=changes))
    return made.manifest.version
