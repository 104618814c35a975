"""The kinds of features: what a model takes, as its manifest says it."""

from typing import Annotated, Literal

from pydantic import FailFast, Field, model_validator

from contract.part import Part
from contract.signature import Dtype, Float32, Shape, require_size

MOST_TEXT_CHARACTERS = 10_000_000
LARGEST_SIDE = 2**15

Policy = Literal["accept", "reject"]
FeatureName = Annotated[str, Field(min_length=1, max_length=512)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class NumberFeature(Part):
    """A number. `minimum` and `maximum` are the range seen in training; `example` is its median there."""

    kind: Literal["number"] = "number"
    name: FeatureName
    dtype: Literal["float32"] = "float32"
    shape: tuple[()] = ()
    required: bool
    minimum: Float32
    maximum: Float32
    example: Float32
    on_out_of_range: Policy = "accept"


class CategoryFeature(Part):
    """One of a fixed set of strings. Codes: 0 unseen, 1 missing, 2 + i for `vocabulary[i]`."""

    kind: Literal["category"] = "category"
    name: FeatureName
    dtype: Literal["string"] = "string"
    shape: tuple[()] = ()
    required: bool
    vocabulary: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1), FailFast()]
    example: str
    on_unseen: Policy = "accept"


class ImageFeature(Part):
    """A picture, [height, width, channels] of `dtype`. In a request: nested lists, or {"b64": PNG, JPEG or WebP file}.

    `minimum` and `maximum` are the range of its values in training, 0 and 255 for picture files.
    """

    kind: Literal["image"] = "image"
    name: FeatureName
    dtype: Literal["uint8", "float32"] = "uint8"
    shape: tuple[Side, Side, Side]
    required: Literal[True] = True
    minimum: Float32 = 0.0
    maximum: Float32 = 255.0

    @model_validator(mode="after")
    def _has_pixels(self) -> "ImageFeature":
        if self.shape[2] not in (1, 3):
            raise ValueError(f"expected height, width and 1 or 3 channels, got {self.shape}")
        require_size(self.shape)
        return self


class TextFeature(Part):
    """Free text, tokenized inside the network. A missing text is an empty one."""

    kind: Literal["text"] = "text"
    name: FeatureName
    dtype: Literal["string"] = "string"
    shape: tuple[()] = ()
    required: bool
    example: str
    most_characters: int = Field(default=100_000, gt=0, le=MOST_TEXT_CHARACTERS)


class TensorFeature(Part):
    """An input of an imported model. `shape` is that of one row, -1 where a size is known only when a request comes.

    In a request: nested lists, true and false, numbers or strings as the dtype says; a string that is no text as
    {"b64": its bytes}; a whole tensor as {"b64": its little-endian bytes}, with "shape" where that must be said.
    """

    kind: Literal["tensor"] = "tensor"
    name: FeatureName
    dtype: Dtype
    shape: Shape = ()
    required: Literal[True] = True

    @model_validator(mode="after")
    def _is_of_a_size_to_be_had(self) -> "TensorFeature":
        require_size(self.shape)
        return self


Feature = Annotated[
    NumberFeature | CategoryFeature | ImageFeature | TextFeature | TensorFeature, Field(discriminator="kind")
]
