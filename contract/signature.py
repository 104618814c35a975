"""A model's inputs and outputs as named tensors, whether it was trained here or imported."""

import math
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import FailFast, Field, model_validator

from contract.errors import RuntimeUnavailable
from contract.part import Part

Dtype = Literal[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "string",
]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

UNKNOWN = -1

# What a manifest may say. TensorFlow's own limit of a rank is 254; no serving protocol's client uses a tenth of that.
MOST_DIMENSIONS = 16
MOST_VALUES_A_ROW = 2**28
MOST_TENSORS = 1000

TensorName = Annotated[str, Field(min_length=1, max_length=512)]
Size = Annotated[int, Field(ge=UNKNOWN, lt=2**31)]
# A float64 that is a float32 when it is one: neither NaN nor infinite.
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
Float32 = Annotated[float, Field(ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32)]

Shape = Annotated[tuple[Size, ...], Field(max_length=MOST_DIMENSIONS), FailFast()]


class TensorSpec(Part):
    """One named tensor. `shape` is whole, the rows first; -1 where a size is known only when a request comes."""

    name: TensorName
    dtype: Dtype
    shape: Shape

    @model_validator(mode="after")
    def _is_of_a_size_to_be_had(self) -> "TensorSpec":
        require_size(self.shape)
        return self

    @property
    def batched(self) -> bool:
        """Whether it has a first dimension, of any number of rows."""
        return self.shape[:1] == (UNKNOWN,)

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.shape[1:]


class Signature(Part):
    """What goes in and what comes out, by name, each in the order of the manifest."""

    inputs: tuple[TensorSpec, ...] = Field(max_length=MOST_TENSORS * 10)
    outputs: tuple[TensorSpec, ...] = Field(max_length=MOST_TENSORS)


def require_size(shape: tuple[int, ...]) -> None:
    """Raises ValueError where even one value for each unknown size would be more than a machine can hold."""
    if math.prod(size for size in shape if size != UNKNOWN) > MOST_VALUES_A_ROW:
        raise ValueError(f"expected at most {MOST_VALUES_A_ROW} values a row, got {shape}")


def is_number(dtype: Dtype, row: tuple[int, ...]) -> bool:
    """Whether a row's tensor of this type and shape is one number."""
    return dtype not in ("string", "bool") and row in ((), (1,))


def numpy_dtype(dtype: Dtype) -> np.dtype[Any]:
    """NumPy's type of a tensor; strings are objects, of bytes. Raises RuntimeUnavailable for a bfloat16 where
    ml_dtypes, which comes with TensorFlow, is not installed."""
    if dtype == "string":
        return np.dtype(object)
    if dtype == "bfloat16":
        try:
            from ml_dtypes import bfloat16
        except ImportError as error:
            raise RuntimeUnavailable("a tensor of bfloat16 needs ml_dtypes, which TensorFlow brings") from error
        found: np.dtype[Any] = np.dtype(bfloat16)
        return found
    return np.dtype(dtype)
