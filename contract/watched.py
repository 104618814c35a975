"""What of a model's inputs and outputs is watched for drift, by name: what its manifest may have a baseline of.

A number and a category are watched by themselves, under their own names. Of a picture and a text a few numbers are,
each under the feature's name and its own, such as `picture.sharpness`; of an output those in `OUTPUTS`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from contract.kinds import CategoryFeature, Feature, ImageFeature, NumberFeature, TensorFeature, TextFeature
from contract.outputs import Output, TensorsOutput
from contract.signature import is_number

# Of pictures with one channel and with three; contract/appearance.py says what each is.
OF_GREY = ("mean", "contrast", "sharpness", "dark", "bright")
OF_COLOURS = ("mean", "contrast", "sharpness", "red", "green", "blue", "dark", "bright", "saturation")
# contract/wording.py says what each is.
LENGTH, UNKNOWN_WORDS = "length", "unknown"

# The numbers that are watched of a trained model's output, by its name; of the first one every manifest has a baseline.
# contract/certainty.py says what each is.
OUTPUTS = {
    "probability": ("probability", "confidence", "entropy", "margin"),
    "probabilities": ("confidence", "entropy", "margin"),
    "value": ("value",),
}

Kind = Literal["number", "category"]


class Statistic(NamedTuple):
    """A number that is taken of a picture or a text."""

    feature: str
    name: str

    @property
    def label(self) -> str:
        """What it is called in baselines and metrics."""
        return f"{self.feature}.{self.name}"


def columns(features: Sequence[Feature]) -> dict[str, Kind]:
    """The inputs that are watched by themselves, and which kind of histogram each has."""
    kinds: dict[str, Kind] = {}
    for feature in features:
        match feature:
            case NumberFeature():
                kinds[feature.name] = "number"
            case CategoryFeature():
                kinds[feature.name] = "category"
            case TensorFeature() if is_number(feature.dtype, feature.shape):
                kinds[feature.name] = "number"
    return kinds


def statistics(features: Sequence[Feature]) -> tuple[Statistic, ...]:
    """What is watched of pictures and texts; nothing that is called as a feature is, which goes by its own name."""
    names = {feature.name for feature in features}
    found = (Statistic(feature.name, name) for feature in features for name in _names(feature))
    return tuple(each for each in found if each.label not in names)


def outputs(output: Output) -> tuple[str, ...]:
    """What is watched of an output; of an imported model those that are one number a row."""
    if isinstance(output, TensorsOutput):
        return tuple(spec.name for spec in output.tensors if is_number(spec.dtype, spec.row))
    return OUTPUTS[output.name]


def _names(feature: Feature) -> tuple[str, ...]:
    if isinstance(feature, ImageFeature):
        return OF_COLOURS if feature.shape[2] == 3 else OF_GREY
    return (LENGTH, UNKNOWN_WORDS) if isinstance(feature, TextFeature) else ()
