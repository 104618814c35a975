"""The manifest: everything that is known about one version of a model, as data that `cat` can show.

Written once by training, read by the service. Strict in both directions: an unknown key is refused, so a manifest
from a newer Hornpipe is never half-understood; `format_version` says which one is meant.
"""

import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

FORMAT_VERSION: Literal[1] = 1

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


class Part(BaseModel):
    """Base of every part of the manifest: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


Feature = Annotated[NumberFeature | CategoryFeature, Field(discriminator="kind")]


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


class Metric(Part):
    """A measured value with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


class Latency(Part):
    """Microseconds a call, on the machine that trained."""

    p50: float = Field(gt=0)
    p99: float = Field(gt=0)


class Variant(Part):
    """One executable form of the model, measured against the float32 SavedModel on held-out rows."""

    name: Name
    runtime: Literal["litert", "savedmodel"]
    path: BundlePath
    size: int = Field(gt=0)
    largest_difference: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    metrics: dict[str, float]
    latency: dict[Literal["1", "32"], Latency]


class Choice(Part):
    """The variant that serves where nothing else is asked for, and why."""

    variant: Name
    why: str


class Baseline(Part):
    """What a simpler model reaches on the same split."""

    name: str
    metrics: dict[str, float]
    fit_seconds: float


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

    row: dict[str, float | int | str | None]
    outputs: dict[str, float]


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
    """One version of a model. `files` lists every file of the bundle but the manifest itself."""

    format_version: Literal[1] = FORMAT_VERSION
    name: Name
    version: int = Field(ge=1)
    created: AwareDatetime
    code_revision: str | None
    task: Literal["binary"]
    config: dict[str, Any]
    data: DataFacts
    features: tuple[Feature, ...] = Field(min_length=1)
    output: BinaryOutput
    headline: str
    metrics: dict[str, Metric]
    baselines: tuple[Baseline, ...]
    variants: tuple[Variant, ...] = Field(min_length=1)
    chosen: Choice
    drift: DriftBaseline
    golden: tuple[GoldenExample, ...] = Field(min_length=1)
    files: dict[BundlePath, FileFacts]

    @model_validator(mode="after")
    def _parts_agree(self) -> "Manifest":
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("feature names must differ")
        if set(self.drift.inputs) != set(names) or set(self.drift.outputs) != {self.output.name}:
            raise ValueError("the drift baseline must cover every feature and output, and nothing else")
        if self.chosen.variant not in {variant.name for variant in self.variants}:
            raise ValueError(f"the chosen variant {self.chosen.variant!r} is not among the variants")
        if self.headline not in self.metrics:
            raise ValueError(f"the headline metric {self.headline!r} is not among the metrics")
        return self

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)
