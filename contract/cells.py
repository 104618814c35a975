"""The inputs of an imported model in a table of text, such as CSV: a column for each input that is one value a row.

Where a model has a single input, which is a vector, and no column is called like it, all columns together are it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from contract.manifest import TensorFeature

_BOOLS = {"true": True, "false": False, "1": True, "0": False}


def row(features: Sequence[TensorFeature], cells: Mapping[str | None, Any]) -> dict[str, Any]:
    """A row of cells by column as a row of JSON. Cells without a column and columns that are no inputs are left out."""
    if len(features) == 1 and features[0].name not in cells and len(features[0].shape) == 1:
        vector = features[0]
        return {vector.name: [value(vector, text) for column, text in cells.items() if column is not None]}
    return {each.name: _nested(each, cells[each.name]) for each in features if each.name in cells}


def value(feature: TensorFeature, text: str | None) -> Any:  # noqa: ANN401  # whatever JSON has
    """A cell as JSON has it; what is not of the feature's kind stays text, for the encoder to complain of."""
    if text is None or feature.dtype == "string":
        return text
    if feature.dtype == "bool":
        return _BOOLS.get(text.lower(), text)
    try:
        return int(text)
    except ValueError:
        return _float(text)


def _nested(feature: TensorFeature, text: str | None) -> Any:  # noqa: ANN401  # whatever JSON has
    return [value(feature, text)] if feature.shape else value(feature, text)


def _float(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
