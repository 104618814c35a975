"""Everything measured of one version, for people: `evaluation.json` in the bundle. The report and the comparison are
drawn from it and the manifest alone, so that they can be drawn again by a later Hornpipe."""

from typing import Literal

from pydantic import Field

from contract.evidence import DataWarning, Finding, Metric, Slice, Verdict
from contract.part import Part
from training.diagnosis.signals import Record

RESULTS = "evaluation.json"

# Why a version may have no such file.
WITHOUT = {True: "the version was imported", False: "the version was trained before there was one"}

Points = tuple[tuple[float, float], ...]


class ClassMetrics(Part):
    """How well one class is found."""

    precision: Metric
    recall: Metric
    f1: Metric
    rows: int


class ReliabilityBin(Part):
    """Rows whose predicted probability (of the label given, where there are many classes) lies in one bin: the mean
    prediction, the share that came true, how many rows."""

    predicted: float
    observed: float
    rows: int


class Reliability(Part):
    """Calibration before and after temperature scaling, on the test rows."""

    temperature: float
    before: tuple[ReliabilityBin, ...]
    after: tuple[ReliabilityBin, ...]
    error_before: float
    error_after: float


class Residuals(Part):
    """Of a regression: (predicted, residual) of at most a thousand test rows, and the share of all test rows within the
    prediction interval of the coverage that was asked for."""

    points: Points
    wanted_coverage: float
    coverage: Metric


class Importance(Part):
    """By how much the headline metric gets worse when this feature's values are shuffled among the test rows (Breiman
    2001, section 10); positive is worse."""

    feature: str
    drop: Metric


class Robustness(Part):
    """The headline metric (`metric`) and accuracy where the task has one, on perturbed test rows. `name` is what was
    done to them: clean, fgsm, pgd, noise, missing, unseen; `epsilon` its strength."""

    name: str
    epsilon: float
    metric: float
    accuracy: float | None = None
    detail: str = ""


class ThresholdChoice(Part):
    """How the threshold came about, and what validation gave it. `curve` are (threshold, F1) points."""

    threshold: float
    rule: str
    precision: float
    recall: float
    f1: float
    curve: Points = ()


class FeatureSummary(Part):
    """One input in the training rows, for a small picture: bin or category names and their shares, on training rows and
    on test rows."""

    name: str
    kind: Literal["number", "category", "image", "text"]
    bins: tuple[str, ...]
    train: tuple[float, ...]
    test: tuple[float, ...]


class Results(Part):
    """All of it. Empty where the task has no such thing, or the config asked for none."""

    headline: str
    metrics: dict[str, Metric]
    simpler: str | None = Field(default=None, description="which simpler model is as good, in one sentence")
    by_class: dict[str, ClassMetrics] = Field(default={})
    confusion: tuple[tuple[int, ...], ...] = Field(default=(), description="rows true, columns predicted")
    roc: dict[str, Points] = Field(default={})
    precision_recall: dict[str, Points] = Field(default={})
    reliability: Reliability | None = None
    residuals: Residuals | None = None
    threshold: ThresholdChoice | None = None
    slices: tuple[Slice, ...] = ()
    importance: tuple[Importance, ...] = ()
    robustness: tuple[Robustness, ...] = ()
    features: tuple[FeatureSummary, ...] = ()
    warnings: tuple[DataWarning, ...] = ()
    record: Record = Record()
    findings: tuple[Finding, ...] = ()
    verdict: Verdict | None = None
    training_seconds: float = 0.0
