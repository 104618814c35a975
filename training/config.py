"""The training config: a TOML file, strict, that travels in the manifest.

name = "flights"
task = "binary"
[data]      where the rows are, and which column is the target
[split]     by time, or random
[features]  column = "number" | "category", or a table with more to say
[model]     the network     [training]  how it learns
[quantization]  which variants are made     [serving]  what the service accepts
"""

import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from contract.manifest import Name, Policy
from training.errors import ConfigError, did_you_mean

# A feature becomes an input of the SavedModel, where TensorFlow allows no more than this.
FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class Section(BaseModel):
    """Base of every section: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataSection(Section):
    """`path` is a Parquet or CSV file or a folder of them; `positive` is the target's value that is predicted."""

    path: str
    target: str
    positive: str


class TimeSplit(Section):
    """Rows before `validation_from` train, rows from `test_from` on test: what serving will really be like."""

    by: Literal["time"]
    column: str
    validation_from: date
    test_from: date

    @model_validator(mode="after")
    def _in_order(self) -> "TimeSplit":
        if self.validation_from >= self.test_from:
            raise ValueError("validation_from must be before test_from")
        return self


class RandomSplit(Section):
    """Shares of all rows; the test share is cut off first. Flatters a model whose data changes with time."""

    by: Literal["random"]
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "RandomSplit":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to train on")
        return self


class FeatureSection(Section):
    """One input column. A feature that may be missing in a request is `optional`."""

    kind: Literal["number", "category"]
    optional: bool = False
    on_out_of_range: Policy | None = None
    on_unseen: Policy | None = None

    @model_validator(mode="after")
    def _policy_fits_kind(self) -> "FeatureSection":
        if self.kind == "category" and self.on_out_of_range is not None:
            raise ValueError("on_out_of_range is for numbers; a category has on_unseen")
        if self.kind == "number" and self.on_unseen is not None:
            raise ValueError("on_unseen is for categories; a number has on_out_of_range")
        return self


def _short_form(value: object) -> object:
    """`carrier = "category"` means `carrier = { kind = "category" }`."""
    return {"kind": value} if isinstance(value, str) else value


class ModelSection(Section):
    """The preset `tabular`: numeric and category embeddings into a multilayer perceptron."""

    preset: Literal["tabular"] = "tabular"
    hidden: list[Annotated[int, Field(gt=0)]] = Field(default=[256, 256, 256], min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    number_bins: int = Field(default=32, ge=2, le=512)
    category_width: int = Field(default=16, ge=1, le=512)
    category_min_count: int = Field(default=10, ge=1)


class TrainingSection(Section):
    """How the network learns. `patience` counts evaluations on validation without a better ROC AUC; `averaging` is the
    momentum of the moving average of the weights that is evaluated and exported, 0 for the weights themselves."""

    epochs: int = Field(default=14, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    averaging: float = Field(default=0.99, ge=0, lt=1)
    evaluations_per_epoch: int = Field(default=1, ge=1)
    patience: int = Field(default=4, ge=1)
    seed: int = Field(default=0, ge=0)


class QuantizationSection(Section):
    """A quantized variant serves only if its ROC AUC falls by no more than `max_metric_drop`, and it is faster."""

    int8: bool = True
    max_metric_drop: float = Field(default=0.002, ge=0)


class ServingSection(Section):
    """What the service does with values that training has not seen; a feature may say otherwise."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    on_out_of_range: Policy = "accept"
    on_unseen: Policy = "accept"


class TrainingConfig(Section):
    """Everything a training run is told."""

    name: Name
    task: Literal["binary"] = "binary"
    data: DataSection
    split: Annotated[TimeSplit | RandomSplit, Field(discriminator="by")]
    features: dict[FeatureName, Annotated[FeatureSection, BeforeValidator(_short_form)]] = Field(min_length=1)
    model: ModelSection = ModelSection()
    training: TrainingSection = TrainingSection()
    quantization: QuantizationSection = QuantizationSection()
    serving: ServingSection = ServingSection()

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> "TrainingConfig":
        if self.data.target in self.features:
            raise ValueError(f"the target {self.data.target!r} must not be a feature")
        return self


def load(path: Path, overrides: list[str] | None = None, name: str | None = None) -> TrainingConfig:
    """Read a config file; `overrides` are `section.key=value` with the value in TOML, or a bare string.

    Raises ConfigError with every problem: an unknown key with the nearest valid one, a wrong type, a broken rule.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"is not TOML: {error}"]) from error
    for override in overrides or []:
        _set(raw, override)
    return parse(raw if name is None else raw | {"name": name}, str(path))


def parse(raw: dict[str, Any], source: str = "config") -> TrainingConfig:
    """Check a config that is parsed already. Raises ConfigError."""
    try:
        return TrainingConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(source, [_line(raw, each) for each in error.errors()]) from error


def _set(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError("--set", [f"{override}: expected key=value, such as training.epochs=3"])
    *sections, last = key.strip().split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise ConfigError("--set", [f"{override}: {section} is not a section"])
    raw[last] = _toml_value(text.strip())


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _line(raw: dict[str, Any], error: ErrorDetails) -> str:
    location = [part for part in error["loc"] if part not in ("time", "random") or part in raw]
    key = ".".join(str(part) for part in location) or "config"
    match error["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {did_you_mean(str(location[-1]), _valid_keys(raw, location[:-1]))}"
        case "missing":
            return f"{key}: is missing"
        case "value_error":
            return f"{key}: {error['ctx']['error']}"
        case _:
            return f"{key}: {error['msg'][:1].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _valid_keys(raw: dict[str, Any], location: list[int | str]) -> list[str]:
    """The keys that the section at `location` knows."""
    match location:
        case []:
            return list(TrainingConfig.model_fields)
        case ["split"]:
            split = RandomSplit if raw["split"].get("by") == "random" else TimeSplit
            return list(split.model_fields)
        case ["features", *_]:
            return list(FeatureSection.model_fields)
        case [section, *_]:
            annotation = TrainingConfig.model_fields[str(section)].annotation
            return list(annotation.model_fields) if isinstance(annotation, type) else []
    return []
