"""The manifest: everything that is known about one version of a model, as data that `cat` can show.

Written once by training, read by the service. Strict in both directions: an unknown key is refused, so a manifest
from a newer Hornpipe is never half-understood; `format_version` says which one is meant.
"""

import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from contract.evidence import DataWarning, Finding, Metric, Slice, Verdict
from contract.part import Part

FORMAT_VERSION: Literal[2] = 2

# A name becomes a folder, a metric label and a part of a URL: nothing in it may mean something to any of them.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Policy = Literal["accept", "reject"]
Ratios = tuple[Annotated[float, Field(ge=0, le=1)], ...]


def is_name(text: str) -> bool:
    """Whether `text` can name a model."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def _inside_bundle(path: str) -> str:
    """A bundle is data from elsewhere: its file names must not lead out of its folder."""
    parts = PurePosixPath(path).parts
    if (not parts and path != ".") or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError("must be a path inside the bundle")
    return path


BundlePath = Annotated[str, AfterValidator(_inside_bundle)]


class NumberFeature(Part):
    """A number. `minimum` and `maximum` are the range seen in training; `example` is its median there."""

    kind: Literal["number"] = "number"
    name: str = Field(min_length=1)
    dtype: Literal["float32"] = "float32"
    shape: tuple[int, ...] = ()
    required: bool
    minimum: float
    maximum: float
    example: float
    on_out_of_range: Policy = "accept"


class CategoryFeature(Part):
    """One of a fixed set of strings. Codes: 0 unseen, 1 missing, 2 + i for `vocabulary[i]`."""

    kind: Literal["category"] = "category"
    name: str = Field(min_length=1)
    dtype: Literal["string"] = "string"
    shape: tuple[int, ...] = ()
    required: bool
    vocabulary: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    example: str
    on_unseen: Policy = "accept"


class ImageFeature(Part):
    """A picture, [height, width, channels] of `dtype`. In a request: nested lists, or {"b64": PNG or JPEG file}.

    `minimum` and `maximum` are the range of its values in training, 0 and 255 for picture files.
    """

    kind: Literal["image"] = "image"
    name: str = Field(min_length=1)
    dtype: Literal["uint8", "float32"] = "uint8"
    shape: tuple[int, int, int]
    required: Literal[True] = True
    minimum: float = 0.0
    maximum: float = 255.0

    @model_validator(mode="after")
    def _has_pixels(self) -> "ImageFeature":
        if min(self.shape) < 1 or self.shape[2] not in (1, 3):
            raise ValueError(f"expected height, width and 1 or 3 channels, got {self.shape}")
        return self


class TextFeature(Part):
    """Free text, tokenized inside the network. A missing text is an empty one."""

    kind: Literal["text"] = "text"
    name: str = Field(min_length=1)
    dtype: Literal["string"] = "string"
    shape: tuple[int, ...] = ()
    required: bool
    example: str
    most_characters: int = Field(default=100_000, gt=0)


Feature = Annotated[NumberFeature | CategoryFeature | ImageFeature | TextFeature, Field(discriminator="kind")]


class BinaryOutput(Part):
    """The model's output `probability`, float32 [n]: of `positive`, which is the label from `threshold` on."""

    name: Literal["probability"] = "probability"
    dtype: Literal["float32"] = "float32"
    classes: tuple[str, str]
    positive: str
    threshold: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "BinaryOutput":
        if self.positive not in self.classes or self.classes[0] == self.classes[1]:
            raise ValueError(f"positive must be one of two different classes, got {self.positive!r} of {self.classes}")
        return self

    @cached_property
    def float32_threshold(self) -> float:
        """The threshold as the output's own type has it: a score is compared with this, everywhere."""
        return float(np.float32(self.threshold))

    @cached_property
    def negative(self) -> str:
        return next(name for name in self.classes if name != self.positive)


class MulticlassOutput(Part):
    """The model's output `probabilities`, float32 [n, classes]; the label is the class with the largest."""

    name: Literal["probabilities"] = "probabilities"
    dtype: Literal["float32"] = "float32"
    classes: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _classes_differ(self) -> "MulticlassOutput":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ")
        return self


class RegressionOutput(Part):
    """The model's output `value`, float32 [n], in the target's unit.

    `half_width` makes value - half_width .. value + half_width an interval that held `coverage` of the validation rows
    (split conformal prediction: Lei et al., Distribution-Free Predictive Inference for Regression, 2018, section 2.2).
    """

    name: Literal["value"] = "value"
    dtype: Literal["float32"] = "float32"
    minimum: float
    maximum: float
    half_width: float = Field(ge=0)
    coverage: float = Field(default=0.9, gt=0, lt=1)


Output = Annotated[BinaryOutput | MulticlassOutput | RegressionOutput, Field(discriminator="name")]

# The one number of an output that its drift is watched by: the probability of the positive class, the largest
# probability, the value.
SCORES = {"probability": "probability", "probabilities": "confidence", "value": "value"}


class Latency(Part):
    """Microseconds a call, on the machine that trained."""

    p50: float = Field(gt=0)
    p99: float = Field(gt=0)


class Variant(Part):
    """One executable form of the model, measured against the float32 SavedModel on held-out rows.

    `size` and `memory` (what loading and running it adds) are bytes; `intervals` are those of the metrics, `headline`
    the one that is decided by. `refused` says why it may not serve; one that answers what is no number has no metrics.
    """

    name: Name
    runtime: Literal["litert", "savedmodel"]
    path: BundlePath
    size: int = Field(gt=0)
    largest_difference: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    metrics: dict[str, float]
    latency: dict[Literal["1", "32"], Latency]
    intervals: dict[str, Metric] = Field(default={})
    headline: Metric | None = None
    memory: int | None = None
    refused: str | None = None


class Choice(Part):
    """The variant that serves where nothing else is asked for, and why."""

    variant: Name
    why: str


class Baseline(Part):
    """What a simpler model reaches on the same split."""

    name: str
    metrics: dict[str, float]
    fit_seconds: float
    headline: Metric | None = None
    predict_ms: float | None = None


class NumberBins(Part):
    """Histogram of a number. `edges` are training quantiles, strictly rising; bin i is [edges[i], edges[i + 1]), the
    last one closed. `ratios`: below, one a bin, above, missing, non-finite; they add up to 1."""

    kind: Literal["number"] = "number"
    edges: tuple[float, ...] = Field(min_length=2)
    ratios: Ratios

    @model_validator(mode="after")
    def _fits(self) -> "NumberBins":
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise strictly")
        if len(self.ratios) != len(self.edges) + 3:
            raise ValueError(f"expected {len(self.edges) + 3} ratios, got {len(self.ratios)}")
        return self


class CategoryBins(Part):
    """Histogram of a category. `categories` are the most frequent ones. `ratios`: one each, other, missing, unseen."""

    kind: Literal["category"] = "category"
    categories: tuple[str, ...] = Field(min_length=1)
    ratios: Ratios

    @model_validator(mode="after")
    def _fits(self) -> "CategoryBins":
        if len(self.ratios) != len(self.categories) + 3:
            raise ValueError(f"expected {len(self.categories) + 3} ratios, got {len(self.ratios)}")
        return self


Bins = Annotated[NumberBins | CategoryBins, Field(discriminator="kind")]


class DriftBaseline(Part):
    """How inputs (on training rows) and outputs (on validation rows) are distributed when nothing has drifted."""

    rows: int = Field(gt=0)
    inputs: dict[str, Bins]
    outputs: dict[str, NumberBins]
    labels: dict[str, float]


class GoldenExample(Part):
    """A raw row as a client would send it, and the float32 SavedModel's answer to it."""

    row: dict[str, float | int | str | dict[str, str] | list[Any] | None]
    outputs: dict[str, float | tuple[float, ...]]


class DataFacts(Part):
    """Which data the model has seen. The fingerprint is a SHA-256 over names, types and values."""

    fingerprint: str
    source: str
    train_rows: int
    validation_rows: int
    test_rows: int


class FileFacts(Part):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Part):
    """One version of a model. `files` lists every file of the bundle but the manifest itself; `temperature` is what the
    logits were divided by to calibrate them, in the graph. Format 1 is format 2 with binary tables alone."""

    format_version: Literal[1, 2] = FORMAT_VERSION
    name: Name
    version: int = Field(ge=1)
    created: AwareDatetime
    code_revision: str | None
    task: Literal["binary", "multiclass", "regression"]
    config: dict[str, Any]
    data: DataFacts
    features: tuple[Feature, ...] = Field(min_length=1)
    output: Output
    headline: str
    metrics: dict[str, Metric]
    baselines: tuple[Baseline, ...]
    variants: tuple[Variant, ...] = Field(min_length=1)
    chosen: Choice
    drift: DriftBaseline
    golden: tuple[GoldenExample, ...] = Field(min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    slices: tuple[Slice, ...] = ()
    warnings: tuple[DataWarning, ...] = ()
    findings: tuple[Finding, ...] = ()
    verdict: Verdict | None = None
    files: dict[BundlePath, FileFacts] = Field(default={})

    @model_validator(mode="after")
    def _parts_agree(self) -> "Manifest":
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("feature names must differ")
        watched = {f.name for f in self.features if f.kind in ("number", "category")}
        if set(self.drift.inputs) != watched or set(self.drift.outputs) != {self.score}:
            raise ValueError("the drift baseline must cover every number, category and output, and nothing else")
        if self.chosen.variant not in {variant.name for variant in self.variants}:
            raise ValueError(f"the chosen variant {self.chosen.variant!r} is not among the variants")
        if self.headline not in self.metrics:
            raise ValueError(f"the headline metric {self.headline!r} is not among the metrics")
        return self

    @property
    def score(self) -> str:
        """The name of the number by which the output's drift is watched."""
        return SCORES[self.output.name]

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)
