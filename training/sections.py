"""The sections of a training config: what may be said, with which defaults, and what it means.

Frozen and strict; unknown keys are errors. Reading them from a file is training/config.py.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from contract.manifest import Name, Policy
from contract.promotion import Promotion
from contract.quality_interval import MEASURED
from contract.retrain import Retrain
from training.data_sections import DataSection as DataSection  # whoever reads a config has its sections from here
from training.data_sections import GroupSplit as GroupSplit
from training.data_sections import OrderSplit as OrderSplit
from training.data_sections import RandomSplit as RandomSplit
from training.data_sections import Section as Section
from training.data_sections import Shares as Shares
from training.data_sections import Split as Split
from training.data_sections import TimeSplit as TimeSplit
from training.data_sections import Window as Window
from training.task import TaskName

# A feature becomes an input of the SavedModel, where TensorFlow allows no more than this.
FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class FeatureSection(Section):
    """One input. A feature that may be missing in a request is `optional`; `column` is its name in the data where that
    is another. A picture is read in `size` (height, width), with 1 or 3 `channels`, by default as the first one is."""

    kind: Literal["number", "category", "image", "text"]
    column: str | None = None
    optional: bool = False
    on_out_of_range: Policy | None = None
    on_unseen: Policy | None = None
    size: list[Annotated[int, Field(gt=0)]] | None = Field(default=None, min_length=2, max_length=2)
    channels: Literal[1, 3] | None = None

    @model_validator(mode="after")
    def _options_fit_kind(self) -> "FeatureSection":
        if self.kind != "number" and self.on_out_of_range is not None:
            raise ValueError("on_out_of_range is for numbers; a category has on_unseen")
        if self.kind != "category" and self.on_unseen is not None:
            raise ValueError("on_unseen is for categories; a number has on_out_of_range")
        if self.kind != "image" and (self.size is not None or self.channels is not None):
            raise ValueError("size and channels are for images")
        if self.kind == "image" and self.optional:
            raise ValueError("an image cannot be optional")
        return self


def _short_form(value: object) -> object:
    """`carrier = "category"` means `carrier = { kind = "category" }`."""
    return {"kind": value} if isinstance(value, str) else value


class TabularModel(Section):
    """Numeric and category embeddings into `members` multilayer perceptrons, whose mean is the answer: on the flights a
    few small ones together beat a large one."""

    preset: Literal["tabular"] = "tabular"
    members: int = Field(default=4, ge=1, le=32)
    hidden: list[Annotated[int, Field(gt=0)]] = Field(default=[128, 128, 128], min_length=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    batch_normalization: bool = False
    number_bins: int = Field(default=32, ge=2, le=512)
    category_width: int = Field(default=16, ge=1, le=512)


class ImageModel(Section):
    """A small residual network. `widths` are the channels of its stages, each of half the size of the one before;
    `shift`, `rotate`, `shear` and `zoom` augment by up to that share of the picture or of a turn, `flip` left to right,
    `noise` by normal noise of so much of the range from darkest to lightest."""

    preset: Literal["image"]
    widths: list[Annotated[int, Field(gt=0)]] = Field(default=[32, 64, 128], min_length=1)
    blocks: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    augment: bool = True
    shift: float = Field(default=0.1, ge=0, lt=1)
    rotate: float = Field(default=0.03, ge=0, lt=1)
    shear: float = Field(default=0.2, ge=0, lt=1)
    zoom: float = Field(default=0.1, ge=0, lt=1)
    flip: bool = False
    noise: float = Field(default=0.1, ge=0, lt=1)


class TextModel(Section):
    """Tokens (TextVectorization, in the graph) into embeddings, then a convolution and pooling over the words."""

    preset: Literal["text"]
    vocabulary_size: int = Field(default=20_000, ge=10)
    words: int = Field(default=100, ge=1)
    width: int = Field(default=64, ge=1)
    hidden: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)


class ApplicationModel(Section):
    """A network of keras.applications, by class name, under a new head. `weights` is a local file of them; without,
    it starts from nothing. `frozen` trains the head alone."""

    preset: Literal["application"] = "application"
    application: str
    weights: str | None = None
    frozen: bool = False
    dropout: float = Field(default=0.2, ge=0, lt=1)
    augment: bool = True


class SavedKerasModel(Section):
    """A .keras file to start from: its inputs are the packed tensors, its output the logits."""

    preset: Literal["file"] = "file"
    start: str


class BuilderModel(Section):
    """The user's own Keras code: `builder` is "package.module:function", called with what the data is (see
    training/model.py), and `options` are handed on to it."""

    preset: Literal["builder"] = "builder"
    builder: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    options: dict[str, Any] = Field(default={})


def _named_by_its_key(value: object) -> object:
    """`builder = ...`, `application = ...` and `start = ...` say by themselves which kind of model is meant."""
    if not isinstance(value, dict) or "preset" in value:
        return value
    kinds = {"builder": "builder", "application": "application", "start": "file"}
    return {"preset": next((kinds[key] for key in value if key in kinds), "tabular"), **value}


Model = TabularModel | ImageModel | TextModel | ApplicationModel | SavedKerasModel | BuilderModel
ModelSection = Annotated[Annotated[Model, Field(discriminator="preset")], BeforeValidator(_named_by_its_key)]


class TrainingSection(Section):
    """How the network learns.

    `learning_rate = "find"` looks for it with a range test. `schedule` falls from it to 0 along a cosine, stays, or
    halves at each `plateau_patience` evaluations without a better one; `warmup` is the share of all steps in which it
    rises from 0. `clip_norm` bounds the global gradient norm. `averaging` is the momentum of the moving average of the
    weights that is evaluated and exported, 0 for the weights themselves. `patience` counts evaluations on validation
    without a better one. `time_limit` is in minutes. `class_weights = "balanced"` weighs each class by the inverse of
    its share; `focal_gamma` above 0 is the focal loss. `mixed_precision = "auto"` is for GPUs. `checkpoint_seconds` is
    the longest work that a kill can cost.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=512, ge=1)
    learning_rate: Annotated[float, Field(gt=0)] | Literal["find"] = 2e-3
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    plateau_patience: int = Field(default=2, ge=1)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    averaging: float = Field(default=0.99, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    focal_gamma: float = Field(default=0.0, ge=0)
    mixed_precision: Literal["auto"] | bool = "auto"
    evaluations_per_epoch: int = Field(default=2, ge=1)
    patience: int = Field(default=3, ge=1)
    time_limit: float | None = Field(default=None, gt=0)
    checkpoint_seconds: float = Field(default=30.0, gt=0)
    devices: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    seed: int = Field(default=0, ge=0)


class AdversarialSection(Section):
    """Training on perturbed examples too: `share` of the loss is theirs. `epsilon` is the largest change of a pixel
    (0 to 1 from darkest to lightest) or of a number in its standard deviations; `pgd` takes `steps` steps to it."""

    attack: Literal["fgsm", "pgd"] = "pgd"
    epsilon: float = Field(default=0.1, gt=0)
    steps: int = Field(default=5, ge=1)
    share: float = Field(default=0.5, gt=0, le=1)


class EvaluationSection(Section):
    """What is measured on held-out rows. `calibrate` divides the logits by a temperature where that lowers the
    calibration error on validation. `slice_rows` is the fewest rows of a slice that is looked at."""

    resamples: int = Field(default=200, ge=20)
    calibrate: bool = True
    slices: bool = True
    slice_rows: int = Field(default=100, ge=10)
    importance: bool = True
    robustness: bool = True
    robustness_epsilon: float = Field(default=0.1, gt=0)


VariantName = Literal["float16", "dynamic-int8", "full-int8", "weight-int8"]


class QuantizationSection(Section):
    """Which variants are made beside float32: `auto` is dynamic-int8, for pictures full-int8 too, for texts none. One
    serves only if its headline metric falls by no more than `max_metric_drop` (by the lower end of a paired bootstrap
    interval; of a regression, in standard deviations of the target), and it is faster."""

    variants: Literal["auto"] | list[VariantName] = "auto"
    max_metric_drop: float = Field(default=0.002, ge=0)


class ThresholdRule(Section):
    """How validation chooses the threshold: the least `cost` (of a false positive and of a false negative, in any
    unit), the most recall with this `precision`, or the most precision with this `recall`."""

    cost: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = None
    precision: float | None = Field(default=None, gt=0, lt=1)
    recall: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _is_one(self) -> "ThresholdRule":
        if sum(rule is not None for rule in (self.cost, self.precision, self.recall)) != 1:
            raise ValueError("expected one of cost = [false_positive, false_negative], precision = ... or recall = ...")
        return self


Threshold = Annotated[float, Field(gt=0, lt=1)] | Literal["f1"] | ThresholdRule


class ServingSection(Section):
    """What the service does with values that training has not seen (a feature may say otherwise), and from which
    probability on the positive class is the label: a number, or a rule by which validation chooses it."""

    threshold: Threshold = 0.5
    on_out_of_range: Policy = "accept"
    on_unseen: Policy = "accept"


class GateSection(Section):
    """What a new version must keep to. `margin` is how much worse than production the headline metric may be, at the
    lower end of a paired 95% interval; `slice_margin` the same for every slice, `calibration_margin` for the
    calibration error. Of a regression, margins are in standard deviations of the target. `minimum` holds for every
    version, production or none: the worst value allowed by metric."""

    margin: float = Field(default=0.005, ge=0)
    slice_margin: float = Field(default=0.05, ge=0)
    calibration_margin: float = Field(default=0.02, ge=0)
    minimum: dict[str, float] = Field(default={})
    max_latency_ms: float | None = Field(default=None, gt=0)
    max_size_mb: float | None = Field(default=None, gt=0)


Cell = str | float | int | bool | None


class InvarianceCheck(Section):
    """Setting `feature` to any of `values` must not move the answer by more than `tolerance`, in the answer's unit: a
    probability or the target's."""

    kind: Literal["invariance"]
    feature: str
    values: list[Cell] = Field(min_length=1)
    tolerance: float = Field(default=0.05, ge=0)


class DirectionCheck(Section):
    """Raising the number `feature` by `by` must not lower (or raise) the answer by more than `tolerance`, but for a
    share of `exceptions` of the rows. Of many classes, `of` says whose probability is the answer."""

    kind: Literal["direction"]
    feature: str
    by: float
    answer: Literal["up", "down"]
    of: str | None = None
    tolerance: float = Field(default=0.0, ge=0)
    exceptions: float = Field(default=0.05, ge=0, le=1)


class MinimumCheck(Section):
    """This row must be right: `expected` is the label, or the value within `tolerance`. A picture is the path of its
    file."""

    kind: Literal["minimum"]
    row: dict[str, Cell]
    expected: str | float
    tolerance: float = Field(default=0.0, ge=0)


class BudgetCheck(Section):
    """The chosen variant must answer a row within `max_latency_ms` (p99) and weigh no more than `max_size_mb`."""

    kind: Literal["budget"]
    max_latency_ms: float | None = Field(default=None, gt=0)
    max_size_mb: float | None = Field(default=None, gt=0)


Check = Annotated[InvarianceCheck | DirectionCheck | MinimumCheck | BudgetCheck, Field(discriminator="kind")]


class TrainingConfig(Section):
    """Everything a training run is told."""

    name: Name
    task: TaskName = "binary"
    data: DataSection
    split: Split
    features: dict[FeatureName, Annotated[FeatureSection, BeforeValidator(_short_form)]] = Field(min_length=1)
    model: ModelSection = TabularModel()
    training: TrainingSection = TrainingSection()
    adversarial: AdversarialSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    quantization: QuantizationSection = QuantizationSection()
    serving: ServingSection = ServingSection()
    gate: GateSection = GateSection()
    checks: list[Check] = Field(default=[])
    retrain: Retrain | None = None
    promotion: Promotion = Promotion()

    @model_validator(mode="after")
    def _parts_agree(self) -> "TrainingConfig":
        problems = [
            *self._target_problems(),
            *self._model_problems(),
            *self._time_problems(),
            *self._retrain_problems(),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _target_problems(self) -> Iterator[str]:
        columns = {section.column or name for name, section in self.features.items()}
        if self.data.target in columns:
            yield f"the target {self.data.target!r} must not be a feature"
        if self.task == "binary" and self.data.positive is None:
            yield "a binary task needs data.positive, the target's value that is predicted"
        if self.task != "binary" and self.data.positive is not None:
            yield f"data.positive is for a binary task, this one is {self.task}"
        if self.task != "binary" and self.serving.threshold != 0.5:
            yield f"serving.threshold is for a binary task, this one is {self.task}"
        if self.task == "regression" and (self.training.class_weights != "none" or self.training.focal_gamma):
            yield "training.class_weights and training.focal_gamma are for classes, this task is regression"

    def _time_problems(self) -> Iterator[str]:
        if self.data.window is not None and not isinstance(self.split, TimeSplit):
            yield 'data.window needs split.by = "time": what is tested on must be newer than what is learnt from'

    def _retrain_problems(self) -> Iterator[str]:
        wanted, known = self.retrain.on_quality if self.retrain else None, MEASURED[self.task]
        if wanted is not None and wanted.metric not in known:
            yield f"retrain.on_quality.metric is one of {', '.join(known)} where the task is {self.task}"

    def _model_problems(self) -> Iterator[str]:
        kinds = [section.kind for section in self.features.values()]
        if kinds.count("image") > 1:
            yield "a model takes one image"
        needed = {"tabular": {"number", "category"}, "image": {"image"}, "text": {"text"}, "application": {"image"}}
        allowed = needed.get(self.model.preset, set(kinds))
        if not set(kinds) <= allowed:
            others = ", ".join(sorted(set(kinds) - allowed))
            expected = " or ".join(sorted(allowed))
            yield f"the model {self.model.preset} takes features of the kind {expected}, not {others}"
