"""What a value of a feature may be: its codes, its bounds, and what is wrong with one, in words."""

from collections.abc import Iterator, Sequence

import numpy as np

from contract import images, tensors
from contract.kinds import CategoryFeature, Feature, ImageFeature, NumberFeature, TensorFeature, TextFeature
from contract.problem import Problem, show

UNSEEN, MISSING, FIRST_KNOWN = 0, 1, 2
REFUSED = -1


def problems_of_value(path: str, feature: Feature, value: object) -> Iterator[Problem]:
    expected = describe(feature)
    if isinstance(feature, ImageFeature | TensorFeature):
        array = (
            images.read(path, feature, value)
            if isinstance(feature, ImageFeature)
            else tensors.read(path, feature, value)
        )
        if isinstance(array, Problem):
            yield array
    elif value is None or (value == "" and not isinstance(feature, NumberFeature)):
        if feature.required:
            yield Problem(path, "required feature is missing", expected, "nothing" if value is None else show(value))
    elif isinstance(feature, NumberFeature):
        yield from _problems_of_number(path, feature, value)
    elif not isinstance(value, str):
        yield Problem(path, "wrong type", expected, show(value))
    elif isinstance(feature, TextFeature):
        if len(value) > feature.most_characters:
            yield Problem(path, "is too long", f"at most {feature.most_characters} characters", show(value))
    elif feature.on_unseen == "reject" and value not in feature.vocabulary:
        yield Problem(path, "was never seen in training", nearest(value, feature.vocabulary), show(value))


def _problems_of_number(path: str, feature: NumberFeature, value: object) -> Iterator[Problem]:
    if type(value) not in (int, float):
        yield Problem(path, "wrong type", describe(feature), show(value))
    elif not np.isfinite(number := _float32(value)):  # type: ignore[arg-type]  # int or float by the test above
        yield Problem(path, "is not finite in float32", describe(feature), show(value))
    elif not bounds(feature)[0] <= number <= bounds(feature)[1]:
        yield Problem(path, "is outside the range seen in training", describe(feature), show(value))


def describe(feature: Feature) -> str:
    """What a value of this feature looks like, in a few words."""
    optional = "" if feature.required else ", or null"
    match feature:
        case CategoryFeature():
            return f"a string such as {', '.join(feature.vocabulary[:3])}{optional}"
        case TextFeature():
            return f"a text{optional}"
        case ImageFeature():
            return images.describe(feature)
        case TensorFeature():
            return tensors.describe(feature)
    if feature.on_out_of_range == "reject":
        return f"a number from {feature.minimum:g} to {feature.maximum:g}{optional}"
    return f"a number{optional}"


def bounds(feature: NumberFeature) -> tuple[np.float32, np.float32]:
    if feature.on_out_of_range == "reject":
        return np.float32(feature.minimum), np.float32(feature.maximum)
    return np.float32(-np.inf), np.float32(np.inf)


class Codes(dict[str | None, int]):
    """Codes of a category's values, missing ones among them; looking up any other string gives `unknown`."""

    def __init__(self, feature: CategoryFeature) -> None:
        super().__init__({value: FIRST_KNOWN + i for i, value in enumerate(feature.vocabulary)})
        self[None] = self[""] = REFUSED if feature.required else MISSING
        self.unknown = REFUSED if feature.on_unseen == "reject" else UNSEEN

    def __missing__(self, value: str | None) -> int:
        return self.unknown


def _float32(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        try:
            return np.float32(value)
        except OverflowError:
            return np.float32(np.inf)


def nearest(name: str, valid: Sequence[str] | frozenset[str]) -> str:
    from difflib import get_close_matches  # 2 ms to import, and only for an error

    close = get_close_matches(name[:100], sorted(valid), n=1)
    if close:
        return f"perhaps {close[0]}"
    some = ", ".join(sorted(valid)[:8])
    return f"one of {some}" + (", ..." if len(valid) > 8 else "")
