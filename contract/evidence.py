"""What a training run found out about itself, in the few words that travel in the manifest.

The long form (curves, matrices, histories) is in the bundle's evaluation.json, for the report.
"""

from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator

from contract.part import Many, Part

# Of these, less is better; of every other metric, more is.
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error", "mae", "rmse"})


def improvement(metric: str, candidate: float, other: float) -> float:
    """By how much `candidate` is better than `other` in this metric; negative where it is worse."""
    return other - candidate if metric in LOWER_IS_BETTER else candidate - other


class Metric(Part):
    """A measured value with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


class Slice(Part):
    """The headline metric on the held-out rows where every feature in `where` has the value or range given."""

    where: dict[str, str] = Field(min_length=1)
    rows: int = Field(gt=0)
    metric: Metric


class DataWarning(Part):
    """Something in the data that training could live with, but a person should know: seen, and what to do."""

    check: str
    column: str | None = None
    seen: str
    advice: str


class Finding(Part):
    """Something the doctor found wrong with a run. `evidence` are the numbers that tripped the rule, `series` the
    (step, value) points of the small plot beside it, `cause` one plain sentence, `fix` the config line to try."""

    rule: str
    severity: Literal["warning", "error"]
    step: int
    layer: str | None = None
    evidence: dict[str, float]
    series: Many[tuple[float, float]] = ()
    cause: str
    fix: str


class Reason(Part):
    """One thing that the gate looked at."""

    check: str
    passed: bool
    detail: str


class Difference(Part):
    """How else a version answers than the one that it was compared with: held-out rows, counted by what both answered.

    `bins[i][j]` are the rows whose answer lay in bin i of the other version's drift baseline, and lies in bin j now;
    `labels` likewise, empty where there is one label, or very many. `disagreed` are the rows of each bin i on which the
    two disagree, as contract.comparison has it.
    """

    bins: Many[Many[NonNegativeInt]]
    labels: Many[Many[NonNegativeInt]] = ()
    disagreed: Many[NonNegativeInt]

    @model_validator(mode="after")
    def _is_of_the_same_rows(self) -> "Difference":
        if any(len(row) != len(table) for table in (self.bins, self.labels) for row in table):
            raise ValueError("bins and labels must be squares of counts")
        of_each = [sum(row) for row in self.bins]
        if len(self.disagreed) != len(of_each) or any(
            n > rows for n, rows in zip(self.disagreed, of_each, strict=True)
        ):
            raise ValueError("disagreed must be of the rows of each bin")
        if self.labels and sum(map(sum, self.labels)) != self.rows:
            raise ValueError("bins and labels must be of the same rows")
        return self

    @property
    def rows(self) -> int:
        return sum(map(sum, self.bins))


class Verdict(Part):
    """Whether a version may serve. `against` is the version it was compared with, None where none served, and
    `difference` how else it answers than that one; verdicts of before have none."""

    passed: bool
    against: int | None = None
    reasons: Many[Reason]
    difference: Difference | None = None
