"""The manifest: everything that is known about one version of a model, as data that `cat` can show.

Written once by training, read by the service. Strict in both directions: an unknown key is refused, so a manifest
from a newer Hornpipe is never half-understood; `format_version` says which one is meant.
"""

import re
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, FailFast, Field, FiniteFloat, model_validator
from typing_extensions import TypeAliasType

from contract import watched
from contract.estimate import MEANS, Expectation
from contract.evidence import DataWarning, Finding, Metric, Slice, Verdict
from contract.kinds import CategoryFeature as CategoryFeature  # whoever reads manifests has their parts from here
from contract.kinds import Feature as Feature
from contract.kinds import ImageFeature as ImageFeature
from contract.kinds import NumberFeature as NumberFeature
from contract.kinds import Policy as Policy
from contract.kinds import TensorFeature as TensorFeature
from contract.kinds import TextFeature as TextFeature
from contract.outlier import OutlierBaseline
from contract.outputs import SCORES as SCORES
from contract.outputs import TASKS
from contract.outputs import BinaryOutput as BinaryOutput
from contract.outputs import MulticlassOutput as MulticlassOutput
from contract.outputs import Output as Output
from contract.outputs import RegressionOutput as RegressionOutput
from contract.outputs import TensorsOutput as TensorsOutput
from contract.part import Many, Part
from contract.signature import UNKNOWN, Float32, Signature, TensorSpec
from contract.values import FIRST_KNOWN

FORMAT_VERSION: Literal[4] = 4

# What a manifest may say: far more than any model needs, and little enough that no reader of it is harmed.
MOST_FEATURES = 10_000
MOST_VARIANTS = 64
MOST_FILES = 10_000
MOST_GOLDEN = 1000
MOST_BINS = 1000
MOST_WORDS = 100_000
LONGEST_WORD = 64
LARGEST_FILE = 2**44
LARGEST_VERSION = 10**9

# A name becomes a folder, a metric label and a part of a URL: nothing in it may mean something to any of them.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
# Named, because what is annotated so cannot be told from others in a union.
Sizes = TypeAliasType("Sizes", Many[int])
Scores = TypeAliasType("Scores", Many[float])
Ratios = Many[Annotated[float, Field(ge=0, le=1)]]


def is_name(text: str) -> bool:
    """Whether `text` can name a model."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def _inside_bundle(path: str) -> str:
    """A bundle is data from elsewhere: its file names must not lead out of its folder."""
    parts = PurePosixPath(path).parts
    if (not parts and path != ".") or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError("must be a path inside the bundle")
    return path


BundlePath = Annotated[str, AfterValidator(_inside_bundle), Field(max_length=1024)]


class Latency(Part):
    """Microseconds a call, on the machine that trained."""

    p50: FiniteFloat = Field(gt=0)
    p99: FiniteFloat = Field(gt=0)


class Variant(Part):
    """One executable form of the model, measured against the float32 SavedModel on held-out rows, or against the
    original where it was imported. `signature` is the one of its signatures that answers.

    `size` and `memory` (what loading and running it adds) are bytes; `intervals` are those of the metrics, `headline`
    the one that is decided by. `refused` says why it may not serve; one that answers what is no number has no metrics.
    """

    name: Name
    runtime: Literal["litert", "savedmodel"]
    path: BundlePath
    signature: str = Field(default="encoded", min_length=1, max_length=512)
    size: int = Field(gt=0, le=LARGEST_FILE)
    largest_difference: float = Field(ge=0)
    tolerance: FiniteFloat = Field(gt=0)
    metrics: dict[str, float]
    latency: dict[Literal["1", "32"], Latency] = Field(min_length=2)
    intervals: dict[str, Metric] = Field(default={})
    headline: Metric | None = None
    memory: int | None = Field(default=None, ge=0, le=LARGEST_FILE)
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
    edges: Annotated[tuple[Float32, ...], Field(min_length=2, max_length=MOST_BINS), FailFast()]
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
    categories: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_BINS), FailFast()]
    ratios: Ratios

    @model_validator(mode="after")
    def _fits(self) -> "CategoryBins":
        if len(self.ratios) != len(self.categories) + 3:
            raise ValueError(f"expected {len(self.categories) + 3} ratios, got {len(self.ratios)}")
        return self


Bins = Annotated[NumberBins | CategoryBins, Field(discriminator="kind")]
Word = Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]
Words = Annotated[tuple[Word, ...], Field(min_length=1, max_length=MOST_WORDS), FailFast()]


class DriftBaseline(Part):
    """How inputs (on training rows) and outputs (on validation rows) are distributed when nothing has drifted.

    `inputs` are the numbers and categories by name and, since format 4, numbers that are taken of pictures and texts;
    `outputs` the score and, since format 4, what else tells how certain the model is: contract.watched has the names.
    `words` are those that training knows, by text feature, the most frequent first: a text's others are unknown.
    Of an imported model, those numbers among its inputs and outputs that are one a row, on the rows of a sample; of one
    without a sample, nothing.
    """

    rows: int = Field(ge=0)
    inputs: dict[str, Bins]
    outputs: dict[str, NumberBins]
    labels: dict[str, float]
    words: dict[str, Words] = Field(default={})


class GoldenExample(Part):
    """A raw row as a client would send it, and the answer to it of the float32 SavedModel, in `outputs`, or of the
    imported original, in `tensors`, as contract.tensors writes them."""

    row: dict[str, bool | float | int | str | dict[str, str | Sizes] | list[Any] | None]
    outputs: dict[str, float | Scores] = Field(default={})
    tensors: dict[str, bool | float | int | str | dict[str, str | Sizes] | list[Any]] = Field(default={})


class DataFacts(Part):
    """Which data the model has seen. The fingerprint is a SHA-256 over names, types and values; of an imported model,
    over the files that it came in, and `test_rows` are those that its variants were compared on. `rows` is how many
    there were before any was left out of a part, `newest` when the newest of them is, where rows have a time."""

    fingerprint: str
    source: str
    train_rows: int
    validation_rows: int
    test_rows: int
    rows: int | None = Field(default=None, ge=0)
    newest: AwareDatetime | None = None


class FileFacts(Part):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: int = Field(ge=0, le=LARGEST_FILE)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Part):
    """One version of a model. `files` lists every file of the bundle but the manifest itself; `temperature` is what the
    logits were divided by to calibrate them, in the graph.

    The task of an imported model is `tensors`: nobody has measured it, so it has no headline, metrics or baselines.
    Format 1 is format 2 with binary tables alone, format 2 is format 3 without imported models, format 3 is format 4
    with less in its drift baseline.
    """

    format_version: Literal[1, 2, 3, 4] = FORMAT_VERSION
    name: Name
    version: int = Field(ge=1, le=LARGEST_VERSION)
    created: AwareDatetime
    code_revision: str | None
    task: Literal["binary", "multiclass", "regression", "tensors"]
    config: dict[str, Any]
    data: DataFacts
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MOST_FEATURES), FailFast()]
    output: Output
    headline: str = ""
    metrics: dict[str, Metric] = Field(default={})
    baselines: Many[Baseline] = ()
    variants: Annotated[tuple[Variant, ...], Field(min_length=1, max_length=MOST_VARIANTS), FailFast()]
    chosen: Choice
    drift: DriftBaseline
    expectation: Expectation | None = None
    outlier: OutlierBaseline | None = None
    golden: Annotated[tuple[GoldenExample, ...], Field(min_length=1, max_length=MOST_GOLDEN), FailFast()]
    temperature: FiniteFloat = Field(default=1.0, gt=0)
    slices: Many[Slice] = ()
    warnings: Many[DataWarning] = ()
    findings: Many[Finding] = ()
    verdict: Verdict | None = None
    files: dict[BundlePath, FileFacts] = Field(default={}, max_length=MOST_FILES)

    @model_validator(mode="after")
    def _parts_agree(self) -> "Manifest":
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("feature names must differ")
        if TASKS[self.output.name] != self.task:
            raise ValueError(f"the task {self.task} does not answer {self.output.name}")
        if (self.task == "tensors") != all(feature.kind == "tensor" for feature in self.features):
            raise ValueError("an imported model takes tensors, and no other model does")
        if self.chosen.variant not in {variant.name for variant in self.variants}:
            raise ValueError(f"the chosen variant {self.chosen.variant!r} is not among the variants")
        if self.task != "tensors" and self.headline not in self.metrics:
            raise ValueError(f"the headline metric {self.headline!r} is not among the metrics")
        return self

    @model_validator(mode="after")
    def _drift_fits(self) -> "Manifest":
        """Every number and category and the score of a trained model, and any of what else it could be; of an imported
        one, any at all. A manifest of an older format has less, and is watched by that."""
        needed, statistics = watched.columns(self.features), watched.statistics(self.features)
        possible = needed | dict.fromkeys((each.label for each in statistics), "number")
        found = {name: bins.kind for name, bins in self.drift.inputs.items()}
        outputs = self.drift.outputs.keys()
        if not found.items() <= possible.items() or not outputs <= set(watched.outputs(self.output)):
            raise ValueError("the drift baseline covers inputs or outputs that are not there, or of another kind")
        if self.task != "tensors" and not (self.drift.rows and needed.keys() <= found.keys() and self.score in outputs):
            raise ValueError("the drift baseline must cover every number and category, and the output")
        counted = {each.feature for each in statistics if each.name == watched.UNKNOWN_WORDS and each.label in found}
        if self.drift.words.keys() != counted:
            raise ValueError("the drift baseline must have the words of each text whose unknown ones it watches")
        return self

    @model_validator(mode="after")
    def _expectation_fits(self) -> "Manifest":
        expected = self.expectation
        if expected is None:
            return self
        if expected.means.keys() != MEANS.get(self.task):
            raise ValueError(f"the expectation does not have the means that the task {self.task} asks for")
        if not set(expected.bins) <= set(range(len(self.drift.outputs[self.score].ratios))):
            raise ValueError("the expectation has bins that the drift baseline lacks")
        return self

    @model_validator(mode="after")
    def _outlier_fits(self) -> "Manifest":
        if self.outlier is None:
            return self
        scored = dict.fromkeys(self.outlier.numbers, "number") | dict.fromkeys(self.outlier.categories, "category")
        if not scored.items() <= {name: bins.kind for name, bins in self.drift.inputs.items()}.items():
            raise ValueError("the outlier score is made of inputs that the drift baseline lacks")
        values = {each.name: len(each.vocabulary) for each in self.features if isinstance(each, CategoryFeature)}
        if any(len(each.shares) != FIRST_KNOWN + values[name] for name, each in self.outlier.categories.items()):
            raise ValueError("the outlier score must have a share of each value of a category")
        return self

    @model_validator(mode="after")
    def _golden_fits(self) -> "Manifest":
        output = self.output
        for i, example in enumerate(self.golden):
            if isinstance(output, TensorsOutput):
                fits = example.tensors.keys() == {spec.name for spec in output.tensors}
            else:
                width = len(output.classes) if isinstance(output, MulticlassOutput) else None
                answer = example.outputs.get(output.name)
                fits = answer is not None and (len(answer) if isinstance(answer, tuple) else None) == width
            if not fits:
                raise ValueError(f"golden example {i} does not have the model's outputs")
        return self

    @property
    def score(self) -> str:
        """The name of the number by which a trained model's output is watched."""
        return SCORES[self.output.name]

    @cached_property
    def signature(self) -> Signature:
        """Inputs and outputs by name: of a trained model those of `serving_default`, raw and named."""
        inputs = (TensorSpec(name=f.name, dtype=f.dtype, shape=(UNKNOWN, *f.shape)) for f in self.features)
        if isinstance(self.output, TensorsOutput):
            return Signature(inputs=tuple(inputs), outputs=self.output.tensors)
        classes = (len(self.output.classes),) if isinstance(self.output, MulticlassOutput) else ()
        output = TensorSpec(name=self.output.name, dtype="float32", shape=(UNKNOWN, *classes))
        return Signature(inputs=tuple(inputs), outputs=(output,))

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)
