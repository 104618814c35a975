"""From a picture to the array a network takes, and back; the same code in training and in the service.

Needs Pillow, which is imported when a first picture comes. What is done to a picture, in this order:

1. It is turned as its EXIF orientation says, as every viewer does.
2. 16 bits a channel become 8: the upper ones. A palette becomes its colours, CMYK becomes RGB.
3. What is transparent is laid over white, as on a page.
4. Colours become grey by ITU-R 601-2 luma where the feature has one channel; grey becomes three equal channels.
5. It is stretched to the feature's height and width: bilinear and antialiased, without cropping. A JPEG of more than
   twice the size is read at a half, a quarter or an eighth first, which the format makes cheap.
6. Its 0 to 255 stay as they are for uint8, and become `minimum` to `maximum` for float32.
"""

import base64
import binascii
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import PictureError
from contract.kinds import ImageFeature
from contract.lists import flatten
from contract.problem import Problem, show

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[Any]  # [height, width, channels], uint8 or float32

# A small file can hold a picture of any size. To read so many pixels took up to 430 MB and 2 s (a PNG with alpha).
MOST_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP")

# Where Pillow looks for an orientation; to look there and find nothing takes as long as to read a small picture.
_MAY_TURN = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})

_A_FILE = "a PNG, JPEG or WebP file in base64"
_NUMBER_TYPES = frozenset({int, float})

# What Pillow raises for files that are cut short or damaged, by fuzzing and by its source.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error, zlib.error)


def decode(data: bytes, feature: ImageFeature) -> Pixels:
    """A PNG, JPEG or WebP file as [height, width, channels] of the feature's shape and type.

    Raises PictureError, with what is wrong with the file, when it is neither, is cut short, or is too large.
    """
    height, width, channels = feature.shape
    image = _eight_bits(_open(data, 2 * max(height, width)))
    if image.has_transparency_data:
        image = _over_white(image)
    if image.mode != (mode := "L" if channels == 1 else "RGB"):
        image = image.convert(mode)
    if image.size != (width, height):
        from PIL.Image import Resampling

        image = image.resize((width, height), Resampling.BILINEAR)  # antialiased: its support grows with the factor
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(feature.shape)
    return pixels if feature.dtype == "uint8" else _spread(pixels, feature)


def read(path: str, feature: ImageFeature, value: object) -> Pixels | Problem:
    """A picture as it comes in a request, or the first thing that is wrong with it; `path` is where it stands there.

    Nested lists [height][width][channels] of exactly the feature's shape, or [height][width] for one channel; or
    {"b64": a file}, which `decode` fits to the shape.
    """
    match value:
        case None | "":
            return Problem(path, "required feature is missing", describe(feature), "nothing" if value is None else '""')
        case list():
            return _read_lists(path, feature, value)
        case dict() if value.keys() == {"b64"}:
            return _read_file(f"{path}.b64", feature, value["b64"])
        case _:
            return Problem(path, "wrong type", describe(feature), show(value))


def describe(feature: ImageFeature) -> str:
    """What a picture in a request looks like, in a few words."""
    shape = " x ".join(map(str, feature.shape))
    return f'{{"b64": {_A_FILE}}}, or {shape} as nested lists, each {_describe_value(feature)}'


def limits(feature: ImageFeature) -> tuple[float, float]:
    """What a value in nested lists may be: 0 to 255 for uint8. A float may lie outside the range of training by as much
    as that range is wide; what is further off has another unit, such as 0 to 255 where the network knows 0 to 1."""
    if feature.dtype == "uint8":
        return 0.0, 255.0
    width = feature.maximum - feature.minimum
    return feature.minimum - width, feature.maximum + width


def encode_png(image: Pixels, feature: ImageFeature | None = None) -> str:
    """An array [height, width, 1 or 3] as a PNG file in base64: what a client puts under "b64".

    uint8 comes back from `decode` unchanged. float32 needs its `feature`, and comes back rounded to 255 steps.
    """
    from PIL.Image import fromarray

    pixels = image if image.dtype == np.uint8 else _squeeze(image, feature)
    file = io.BytesIO()
    fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _open(data: bytes, wanted: int) -> "Image":
    """The whole picture in memory and upright; neither side smaller than `wanted` if it was not before."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _refuse_bombs(*image.size)
        image.draft(None, (wanted, wanted))
        image.load()
        if not _MAY_TURN.isdisjoint(image.info):
            ImageOps.exif_transpose(image, in_place=True)
    except UnidentifiedImageError as error:
        raise PictureError(f"{len(data)} bytes that are no PNG, JPEG or WebP file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"more than {MOST_PIXELS} pixels") from error
    except _DAMAGED as error:
        raise PictureError(f"a damaged or truncated file of {len(data)} bytes") from error
    return image


def _refuse_bombs(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise PictureError(f"{width} x {height} pixels, more than {MOST_PIXELS}")


def _eight_bits(image: "Image") -> "Image":
    """Pillow's own conversion of 16-bit grey cuts at 255 instead of scaling; its 16-bit colours are scaled already."""
    if not image.mode.startswith("I"):
        return image
    from PIL.Image import fromarray

    return fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))


def _over_white(image: "Image") -> "Image":
    from PIL.Image import new

    picture = image if image.mode == "RGBA" else image.convert("RGBA")
    page = new("RGB", picture.size, "white")
    page.paste(picture, mask=picture.getchannel("A"))
    return page


def _spread(pixels: NDArray[np.uint8], feature: ImageFeature) -> NDArray[np.float32]:
    """0 to 255 onto minimum to maximum: each of the 256 once, because pictures have more pixels."""
    scale = np.float32((feature.maximum - feature.minimum) / 255)
    shades = np.arange(256, dtype=np.float32) * scale + np.float32(feature.minimum)
    return shades.clip(feature.minimum, feature.maximum)[pixels]


def _squeeze(image: Pixels, feature: ImageFeature | None) -> NDArray[np.uint8]:
    """The inverse of `_spread`, to the nearest step."""
    if feature is None:
        raise TypeError("an image of floats needs its feature, whose range says what black and white are")
    width = feature.maximum - feature.minimum or 1.0
    share = (image.astype(np.float64) - feature.minimum) / width
    pixels: NDArray[np.uint8] = np.rint(share.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def _read_file(path: str, feature: ImageFeature, text: object) -> Pixels | Problem:
    if not isinstance(text, str):
        return Problem(path, "wrong type", _A_FILE, show(text))
    try:
        return decode(base64.b64decode(text, validate=True), feature)
    except PictureError as error:
        return Problem(path, "is not a picture that can be read", _A_FILE, str(error))
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        return Problem(path, "is not base64", _A_FILE, show(text))


def _read_lists(path: str, feature: ImageFeature, value: list[Any]) -> Pixels | Problem:
    shape, values = flatten(value)
    if shape != feature.shape and not (feature.shape[2] == 1 and shape == feature.shape[:2]):
        received = f"shape {list(shape)}" if shape else "lists of different lengths"
        return Problem(path, "has another shape", describe(feature), received)
    pixels = _of_type(feature, values)
    if pixels is not None:
        return pixels.reshape(feature.shape)
    wrong = _first_wrong(feature, values)
    place = "".join(f"[{i}]" for i in np.unravel_index(wrong, shape))
    return misfit(path + place, feature, values[wrong])


def misfit(path: str, feature: ImageFeature, value: object) -> Problem:
    """What is wrong with a value that does not fit."""
    return Problem(path, "is not the value of a pixel", _describe_value(feature), show(value))


def _of_type(feature: ImageFeature, values: list[Any]) -> Pixels | None:
    """All values at once, as the feature's type; None where any of them does not fit."""
    if not _NUMBER_TYPES.issuperset(map(type, values)):
        return None
    try:
        wide = np.array(values, np.float64)
    except OverflowError:  # an integer beyond float64
        return None
    return wide.astype(feature.dtype) if fits(feature, wide).all() else None


def _first_wrong(feature: ImageFeature, values: list[Any]) -> int:
    wide = np.array([one if type(one) in _NUMBER_TYPES and abs(one) <= 1e300 else np.nan for one in values])
    return int(np.argmin(fits(feature, wide)))


def fits(feature: ImageFeature, wide: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are in range, as float32 has it: in float64 the largest of training may be just above it."""
    low, high = map(np.float32, limits(feature))
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and out of any range
        narrow = wide.astype(np.float32)
    inside = (narrow >= low) & (narrow <= high)
    return inside & (wide == np.floor(wide)) if feature.dtype == "uint8" else inside


def all_fit(feature: ImageFeature, values: NDArray[Any]) -> bool:
    """Whether all floats are surely in range: in a third of the time of looking at each."""
    low, high = limits(feature)
    return bool(values.size and values.min() >= low and values.max() <= high)


def _describe_value(feature: ImageFeature) -> str:
    low, high = limits(feature)
    return f"a {'whole number' if feature.dtype == 'uint8' else 'number'} from {low:g} to {high:g}"
