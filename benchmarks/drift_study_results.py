"""What the drift study has found, in files: ours and the rivals', in the same words."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.drift_study_cost import Cost
from benchmarks.drift_study_verdicts import Quality, Ringing, Verdict
from contract.evidence import Metric

HORNPIPE = "hornpipe"


@dataclass(frozen=True)
class Ours:
    """`test` is the ROC AUC on the test rows of training, `worse` the days at which HornpipeQualityDown would hold,
    `if_months` the share of late flights that is expected of the same rows in other months."""

    features: list[str]
    outputs: list[str]
    verdicts: list[Verdict]
    ringing: list[Ringing]
    weeks: list[Quality]
    days: list[Quality]
    worse: dict[str, list[int]]
    if_months: dict[str, float]
    test: Metric
    cost: Cost
    facts: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """`theirs` is by tool, as drift_study_evidently.py and drift_study_nannyml.py write it."""

    ours: Ours
    theirs: Mapping[str, Any]

    @classmethod
    def read(cls, ours: Path, theirs: Mapping[str, Path]) -> "Results":
        return cls(_unpacked(json.loads(ours.read_text())), {t: json.loads(p.read_text()) for t, p in theirs.items()})

    @property
    def tools(self) -> tuple[str, ...]:
        return (HORNPIPE, *self.theirs)

    def verdicts(self, tool: str, stream: str, period: str) -> dict[str, dict[int, Verdict]]:
        """By feature and window."""
        every = self.ours.verdicts if tool == HORNPIPE else [Verdict(*each) for each in self.theirs[tool]["verdicts"]]
        found: dict[str, dict[int, Verdict]] = {}
        for each in every:
            if (each.stream, each.period) == (stream, period):
                found.setdefault(each.feature, {})[each.window] = each
        return found


def packed(ours: Ours) -> str:
    return json.dumps(asdict(ours), default=lambda each: each.model_dump())


def _unpacked(found: dict[str, Any]) -> Ours:
    made = {
        "verdicts": [Verdict(*each) for each in found["verdicts"]],
        "ringing": [Ringing(*each) for each in found["ringing"]],
        "weeks": [_quality(each) for each in found["weeks"]],
        "days": [_quality(each) for each in found["days"]],
        "test": Metric(**found["test"]),
        "cost": Cost(**found["cost"]),
    }
    return Ours(**found | made)


def _quality(found: dict[str, Any]) -> Quality:
    return Quality(**found | {"auc": Metric(**found["auc"])})
