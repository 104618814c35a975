"""The quality of a canary and of production, by the labels that have come to what they answered since it began."""

from contract.evidence import Metric
from service.canary.decision import Trial
from service.canary.measures import Labelled
from service.labels.labelled import Joined
from service.labels.labelled import Labelled as Log
from service.quality.quality import HEADLINES, realised
from service.quality.rows import collected, known


def of_trial(log: Log, trial: Trial) -> Labelled | None:
    """None where the headline metric is not defined by what there is. Raises LabelsError; reads a file."""
    rows = {
        version: each for version, (each, _) in collected(log.joined(trial.name, _began(trial), labelled=True)).items()
    }
    before = _headline(rows.get(trial.production), "production")
    now = _headline(rows.get(trial.canary.version), "canary")
    if before is None or now is None or before[0] != now[0]:
        return None
    return Labelled(metric=now[0], production=before[1], canary=now[1], production_rows=before[2], canary_rows=now[2])


def _headline(rows: Joined | None, role: str) -> tuple[str, Metric, int] | None:
    """Of those that it answered in this role: its name, its value, and of how many rows."""
    if rows is None:
        return None
    mine = rows.take((rows.roles == role) & known(rows))
    name = HEADLINES[rows.output.name]
    metric = realised(mine).get(name)
    return None if metric is None else (name, metric, len(mine))


def _began(trial: Trial) -> float:
    return trial.since.timestamp()
