"""From a picture's bytes to the array a network takes, and back; the same code in training and in the service.

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
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import PictureError
from contract.manifest import ImageFeature

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[Any]  # [height, width, channels], uint8 or float32

# A small file can hold a picture of any size. This many fit into some 200 MB while they are read.
MOST_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG")

# What Pillow raises for files that are cut short or damaged, by fuzzing and by its source.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error, zlib.error)


def decode(data: bytes, feature: ImageFeature) -> Pixels:
    """A PNG or JPEG file as [height, width, channels] of the feature's shape and type.

    Raises PictureError, with what is wrong with the file, when it is neither, is cut short, or is too large.
    """
    height, width, channels = feature.shape
    image = _eight_bits(_open(data, 2 * max(height, width)))
    if image.has_transparency_data:
        image = _over_white(image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        from PIL.Image import Resampling

        image = image.resize((width, height), Resampling.BILINEAR)  # antialiased: its support grows with the factor
    pixels = np.array(image, np.uint8).reshape(feature.shape)
    return pixels if feature.dtype == "uint8" else _spread(pixels, feature)


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
        return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise PictureError(f"{len(data)} bytes that are no PNG or JPEG file") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"more than {MOST_PIXELS} pixels") from error
    except _DAMAGED as error:
        raise PictureError(f"a damaged or truncated file of {len(data)} bytes") from error


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
    from PIL.Image import alpha_composite, new

    picture = image.convert("RGBA")
    return alpha_composite(new("RGBA", picture.size, "white"), picture)


def _spread(pixels: NDArray[np.uint8], feature: ImageFeature) -> NDArray[np.float32]:
    """0 to 255 onto minimum to maximum."""
    scale = (feature.maximum - feature.minimum) / 255
    return (pixels * np.float32(scale) + np.float32(feature.minimum)).clip(feature.minimum, feature.maximum)


def _squeeze(image: Pixels, feature: ImageFeature | None) -> NDArray[np.uint8]:
    """The inverse of `_spread`, to the nearest step."""
    if feature is None:
        raise TypeError("an image of floats needs its feature, whose range says what black and white are")
    share = (image.astype(np.float64) - feature.minimum) / (feature.maximum - feature.minimum)
    pixels: NDArray[np.uint8] = np.rint(share.clip(0, 1) * 255).astype(np.uint8)
    return pixels
