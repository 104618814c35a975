"""The base of everything that is written into a bundle as data."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast

T = TypeVar("T")

# A tuple of any length, whose first wrong value is the only one that is told of: a million wrong ones take a minute.
Many = Annotated[tuple[T, ...], FailFast()]


class Part(BaseModel):
    """Frozen, and unknown keys are refused: data from a newer Hornpipe is never half-understood.

    JSON has no NaN and no infinity; they are written as strings, which are read back as what they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True)
