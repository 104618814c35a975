"""Pictures, held against TensorFlow's own readers, NumPy's own turns, and the words of the module's docstring."""

import base64
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contract.errors import PictureError
from contract.images import MOST_PIXELS, decode, encode_png
from contract.manifest import ImageFeature

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (12, 20, 3), dtype=np.uint8)
# What a camera sees is smooth: JPEG keeps it, and resizing it leaves something to compare.
PHOTO = np.stack(
    [np.outer(np.sin(np.arange(600) / a), np.cos(np.arange(800) / b)) for a, b in ((90, 70), (40, 99), (60, 50))], -1
)
PHOTO = np.uint8(PHOTO * 127 + 128)

# By the EXIF standard (CIPA DC-008, 4.6.4 A): what to do to the stored array to see it upright.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def feature(*shape: int, **more: object) -> ImageFeature:
    return ImageFeature(name="picture", shape=shape, **more)


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A valid PNG that promises so many pixels, and has none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_header(width: int, height: int) -> bytes:
    """A WebP file, lossless, that says its size and ends."""
    content = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    chunk = b"VP8L" + len(content).to_bytes(4, "little") + content + b"\0"
    return b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk


def test_png_is_read_as_tensorflow_reads_it() -> None:
    import tensorflow as tf

    data = file(Image.fromarray(COLOURS))

    np.testing.assert_array_equal(decode(data, feature(12, 20, 3)), tf.io.decode_png(data, channels=3).numpy())


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_is_read_as_tensorflow_reads_it(subsampling: int) -> None:
    import tensorflow as tf

    data = file(Image.fromarray(PHOTO), "JPEG", quality=95, subsampling=subsampling)
    read = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()

    assert np.abs(decode(data, feature(600, 800, 3)).astype(int) - read).max() <= 2


@pytest.mark.parametrize("shape", [(60, 80), (97, 33), (900, 700)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_another_size_is_resized_as_tensorflow_resizes_with_antialias(shape: tuple[int, int], kind: str) -> None:
    """A JPEG may be read at a fraction of its size first: on a picture of a camera's smoothness that changes little."""
    import tensorflow as tf

    data = file(Image.fromarray(PHOTO), kind, **({"quality": 97} if kind == "JPEG" else {}))
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)
    resized = tf.image.resize(whole, shape, method="bilinear", antialias=True).numpy()
    difference = np.abs(decode(data, feature(*shape, 3)).astype(np.float32) - resized)

    assert difference.max() <= (1.5 if kind == "PNG" else 6)
    assert difference.mean() <= 0.8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_orientation_of_a_camera_is_undone(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(Image.fromarray(PHOTO[:40, :64]), kind, exif=exif)
    stored = decode(file(Image.fromarray(PHOTO[:40, :64]), kind), feature(40, 64, 3))
    upright = UPRIGHT[orientation](stored)

    np.testing.assert_array_equal(decode(data, feature(*upright.shape)), upright)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_the_upper_eight(channels: int) -> None:
    """Written by hand: Pillow writes no 16-bit colours."""
    deep = RANDOM.integers(0, 2**16, (5, 7, channels)).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in deep)
    kind = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", 7, 5, 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )

    np.testing.assert_array_equal(decode(data, feature(5, 7, channels)), deep >> 8)


def test_what_is_transparent_lies_on_white() -> None:
    alpha = RANDOM.integers(0, 256, (12, 20, 1), dtype=np.uint8)
    expected = COLOURS * (alpha / 255) + 255 * (1 - alpha / 255)
    data = file(Image.fromarray(np.concatenate([COLOURS, alpha], -1)))

    np.testing.assert_allclose(decode(data, feature(12, 20, 3)), expected, atol=1)


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])

    opaque, holed = file(image), file(image, transparency=1)
    assert decode(opaque, feature(1, 3, 3)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    assert decode(holed, feature(1, 3, 3)).tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_colours_become_grey_by_luma_and_grey_three_channels() -> None:
    grey = decode(file(Image.fromarray(COLOURS)), feature(12, 20, 1))
    luma = COLOURS @ [0.299, 0.587, 0.114]

    assert np.abs(grey[:, :, 0] - luma).max() <= 1
    np.testing.assert_array_equal(
        decode(file(Image.fromarray(grey[:, :, 0])), feature(12, 20, 3)), np.repeat(grey, 3, 2)
    )
    bits = decode(file(Image.fromarray(COLOURS[:, :, 0] > 99)), feature(12, 20, 1))
    np.testing.assert_array_equal(bits[:, :, 0], 255 * (COLOURS[:, :, 0] > 99))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_and_back(channels: int) -> None:
    whole = COLOURS[:, :, :channels]
    span = feature(12, 20, channels, dtype="float32", minimum=-2, maximum=3)
    floats = RANDOM.uniform(-2, 3, whole.shape).astype(np.float32)
    read = decode(base64.b64decode(encode_png(floats, span)), span)

    np.testing.assert_array_equal(decode(base64.b64decode(encode_png(whole)), feature(12, 20, channels)), whole)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, floats, atol=5 / 255 / 2 + 1e-6)
    ends = decode(base64.b64decode(encode_png(np.full((12, 20, channels), 255, np.uint8))), span)
    assert (ends == 3).all()
    with pytest.raises(TypeError, match="needs its feature"):
        encode_png(floats)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes that are no PNG, JPEG or WebP file"),
        (b"not a picture", "13 bytes that are no PNG, JPEG or WebP file"),
        (file(Image.fromarray(COLOURS), "GIF"), "no PNG, JPEG or WebP file"),
        (file(Image.fromarray(COLOURS), "BMP"), "no PNG, JPEG or WebP file"),
        (png_header(8000, 8000), f"8000 x 8000 pixels, more than {MOST_PIXELS}"),
        (png_header(100_000, 100_000), f"more than {MOST_PIXELS}"),
        (png_header(10, 10), "damaged or truncated"),
        (webp_header(16383, 16383), f"more than {MOST_PIXELS}"),
        (webp_header(10, 10), "damaged or truncated"),
    ],
)
def test_what_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        decode(data, feature(8, 8, 3))


@given(st.data())
@settings(max_examples=300)
def test_a_file_cut_short_or_altered_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    whole = file(Image.fromarray(COLOURS), kind)
    # The last twenty bytes of a PNG are a checksum and an end mark: without them, all pixels are there.
    cut = data.draw(st.integers(0, len(whole) - 40))
    with pytest.raises(PictureError):
        decode(whole[:cut], feature(8, 8, 3))
    altered = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        altered[place] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(altered), feature(8, 8, 3)).shape == (8, 8, 3)
    except PictureError as error:
        assert str(error)  # noqa: PT017  # either outcome is right


def test_nothing_of_the_contract_needs_pillow_until_a_picture_comes() -> None:
    code = """
import contract.bundle, contract.features, contract.histogram, contract.images, contract.proof, contract.runtimes, sys
assert not {"PIL", "tensorflow", "ai_edge_litert"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
