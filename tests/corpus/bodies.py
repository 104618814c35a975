"""Bodies that are wrong, huge, contradictory or bombs. Each has a name, for the report of the test that it fails."""

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

JSON = "application/json"
MEGABYTE = 2**20


class Body(NamedTuple):
    """What is sent: a name, the content, and headers besides its length."""

    name: str
    content: bytes
    headers: dict[str, str]


def corpus(row: dict[str, object]) -> list[Body]:
    """All of them; `row` is a sound one of the flights."""
    return [*_json(row), *_open_inference(), *_packed(row), *_pictures(), *_arrays(), *_tables(row)]


def _of_json(name: str, content: object) -> Body:
    return Body(name, content if isinstance(content, bytes) else json.dumps(content).encode(), {"content-type": JSON})


def _json(row: dict[str, object]) -> Iterator[Body]:
    sound = json.dumps(row).encode()
    yield from (_of_json(f"json: {text!r:.30}", text) for text in _NO_REQUESTS)
    yield from (_of_json(f"number: {text!r:.30}", b'{"instances":[{"month":%b}]}' % text) for text in _NUMBERS)
    for text in _STRINGS:
        yield _of_json(f"string: {text!r:.30}", b'{"instances":[{"carrier":%b}]}' % text)
        yield _of_json(f"key: {text!r:.30}", b'{"instances":[{%b:1}]}' % text)
        yield _of_json(f"model: {text!r:.30}", b'{"instances":[%b],"model":%b}' % (sound, text))
    for value in _ODD:
        for key in ("instances", "inputs", "model", "version", "signature_name", "examples", "context", "outputs"):
            yield _of_json(f"{key}: {value!r:.30}", {"instances": [row]} | {key: value})
        yield _of_json(f"rows of {value!r:.30}", {"instances": [value, row, value]})
        yield _of_json(f"features of {value!r:.30}", {"instances": [dict.fromkeys(row, value)]})
    yield _of_json("instances twice", b'{"instances":[%b],"instances":[1],"instances":[%b]}' % (sound, sound))
    yield _of_json("features twice", b'{"instances":[%b,"month":"x"}]}' % sound[:-1])
    yield _of_json("inputs and instances", {"instances": [row], "inputs": row})
    for depth in (100, 1000, 5000):
        lists, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth
        yield _of_json(f"lists {depth} deep", b'{"instances":%b}' % lists)
        yield _of_json(f"objects {depth} deep", b'{"instances":[%b]}' % objects)
        yield _of_json(f"nested {depth} deep in a row", b'{"instances":[{"month":%b}]}' % lists)
        yield _of_json(f"ragged {depth} deep", b'{"instances":[%b,[1,2],%b]}' % (lists, lists))
    yield _of_json("a million fields", b'{"instances":[{%b}]}' % b",".join(b'"f%d":0' % i for i in range(10**6)))
    yield _of_json("a million keys", b'{"instances":[],%b}' % b",".join(b'"f%d":0' % i for i in range(10**6)))
    yield _of_json("a million rows", b'{"instances":[%b]}' % b",".join([b"{}"] * 10**6))
    yield _of_json("a million numbers", b'{"instances":[%b]}' % b",".join([b"1.5"] * 10**6))
    yield _of_json("a million lists", b'{"instances":[%b]}' % b",".join([b"[]"] * 10**6))
    yield _of_json("a million spaces", b'{"instances":[%b%b]}' % (b" " * 10**6, sound))
    yield _of_json("long string", b'{"instances":[{"carrier":"%b"}]}' % (b"x" * 8 * MEGABYTE))
    yield _of_json("long number", b'{"instances":[{"month":1%b}]}' % (b"0" * MEGABYTE))
    yield _of_json("long fraction", b'{"instances":[{"month":1.%b}]}' % (b"1" * MEGABYTE))
    yield _of_json("long key", b'{"%b":1}' % (b"k" * MEGABYTE))
    yield _of_json("sixteen megabytes of brackets", b"[" * (16 * MEGABYTE - 1))


_NO_REQUESTS = (
    *(b"", b" ", b"null", b"true", b"0", b'""', b"[]", b"{}", b"{", b"}", b"[[", b'{"', b'{"instances"', b"\x00"),
    *(b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"{}{}", b'{"instances":[]}x', b"[" * 100_000, b'{"a":' * 100_000),
    *(b"'{}'", b"{instances:[]}", b"// {}", b'{"instances":[1,]}', b"\xc0\x80", b"<xml/>", b"%s%n%x", b"a=b&c=d"),
)
_NUMBERS = (
    *(b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"-Infinity", b"-0", b"-0.0", b"01", b"+1", b".5", b"5."),
    *(b"1e", b"0x10", b"1_000", b"9" * 400, b"-" + b"9" * 400, b"18446744073709551616", b"-9223372036854775809"),
    *(b"1e400", b"4.9e-324", b"3.5e38", b"1e-50", b"1" + b"0" * 5000 + b".5e-5000"),
)
_STRINGS = (
    *(b'""', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"'),
    *(b'"../../etc/passwd"', b'"..%2f..%2fetc"', b'"/"', b'"flights/../flights"', b'"C:\\\\"', b'"flights\\u0000"'),
    *(b'"${jndi:ldap://x}"', b'"{{7*7}}"', b'"<script>"', b'"\' OR 1=1 --"', b'"%s%n"', b'"\\u202e"', b'"a\\nb"'),
    *(b'"' + "\u00e9".encode() * 10_000 + b'"', b'"' + "\U0001f600".encode() * 5_000 + b'"', b'"__proto__"'),
)
_ODD = (
    *(None, True, -1, 0, 1.5, 2**31, 2**63, 2**70, "", "1", [], {}, [[]], [{}], {"b64": "!!!"}, {"b64": 1}),
    *({"b64": ""}, {"b64": "AAAA", "more": 1}, [None], [[1], [1, 2]], [1, "a"], {"": 1}, ["x" * 1000]),
)


def _open_inference() -> Iterator[Body]:
    for shape in _SHAPES:
        for datatype in ("FP32", "BYTES", "INT64", "BOOL", "FP16", "FP99", ""):
            one = {"name": "x", "shape": shape, "datatype": datatype, "data": [1]}
            yield _of_json(f"shape {shape!r:.30} of {datatype}", {"inputs": [one]})
    wrong = {"name": "x", "shape": [1, 1], "datatype": "FP32"}
    for size in (-1, 0, 3, 4, 2**31, 2**63, 2**70, "4", 4.5, None, []):
        yield _of_json(f"binary size {size!r}", {"inputs": [wrong | {"parameters": {"binary_data_size": size}}]})
        head = json.dumps({"inputs": [wrong | {"parameters": {"binary_data_size": size}}]}).encode()
        lengths = (str(len(head)), "0", "-1", "99999999999999999999", str(len(head) + 5), "x", "1e3", " 5", "")
        for length in lengths:
            headers = {"content-type": "application/octet-stream", "inference-header-content-length": length}
            yield Body(f"binary size {size!r}, header {length}", head + b"\0\0\x80\x3f", headers)
    for strings in (b"\xff\xff\xff\xff", b"\x04\0\0\0abc", b"\0\0\0\0" * 1000, b"\x01", b"\xff\xff\xff\x7fa"):
        one = wrong | {"datatype": "BYTES", "parameters": {"binary_data_size": len(strings)}}
        head = json.dumps({"inputs": [one]}).encode()
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        yield Body(f"strings {strings!r:.20}", head + strings, headers)
    for parameters in ({"classification": 10**9}, {"classification": -1}, {"classification": "x"}, {"binary_data": 7}):
        asked = {"inputs": [wrong | {"data": [1.0]}], "outputs": [{"name": "probability", "parameters": parameters}]}
        yield _of_json(f"output {parameters}", asked)
    yield _of_json("a thousand inputs", {"inputs": [wrong | {"data": [1.0]}] * 1000})
    yield _of_json("a thousand outputs", {"inputs": [wrong | {"data": [1.0]}], "outputs": [{"name": "x"}] * 1000})


_SHAPES = (
    *([], [0], [-1], [1], [2**31, 2**31], [2**62, 4], [2**63], [2**64], [10**18] * 8, [1] * 100, [1.5], ["1"], [[1]]),
    *(None, "1", 1, [0, 2**62], [2**32, 0], [True], [-(2**63)]),
)


def _packed(row: dict[str, object]) -> Iterator[Body]:
    sound = json.dumps({"instances": [row]}).encode()
    bomb = gzip.compress(b" " * 64 * MEGABYTE)
    twice = gzip.compress(bomb)
    for name, content in (
        ("sound", gzip.compress(sound)),
        ("bomb", bomb),
        ("bomb in a bomb", twice),
        ("many members", gzip.compress(b"") * 20_000),
        ("many bombs", bomb * 100),
        ("cut", gzip.compress(sound)[:-9]),
        ("bad sum", gzip.compress(sound)[:-8] + b"\0" * 8),
        ("not packed", sound),
        ("empty", b""),
        ("magic alone", b"\x1f\x8b"),
        ("long name", b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * MEGABYTE),
        ("zlib", zlib.compress(sound)),
        ("zlib bomb", zlib.compress(b"[" * 64 * MEGABYTE)),
        ("trailing", gzip.compress(sound) + b"x" * 1000),
    ):
        for encoding in ("gzip", "deflate", "gzip, gzip", "br", "identity"):
            yield Body(f"{encoding}: {name}", content, {"content-type": JSON, "content-encoding": encoding})


def _pictures() -> Iterator[Body]:
    for name, content in _files():
        text = base64.b64encode(content).decode()
        yield _of_json(f"picture: {name}", {"instances": [{"picture": {"b64": text}}], "model": "digits"})
        yield Body(f"picture as body: {name}", content, {"content-type": "image/png"})
    for text in ("", "=", "====", "AAA", "A" * 5, "\u00e9" * 4, "-_-_", " ", "data:image/png;base64,AAAA"):
        yield _of_json(f"base64: {text!r}", {"instances": [{"picture": {"b64": text}}], "model": "digits"})
    for shape in ((8, 8), (8, 8, 1), (8, 8, 3), (1, 1), (9, 9), (1000, 1000), (8, 8, 1, 1), (0,), (64,)):
        listed = np.zeros(shape, int).tolist()
        yield _of_json(f"numbers of shape {shape}", {"instances": [{"picture": listed}], "model": "digits"})


def _files() -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "PDF", "EPS", "TGA", "DDS"):
        saved = io.BytesIO()
        Image.new("RGB", (8, 8)).save(saved, form)
        content = saved.getvalue()
        yield form, content
        yield f"{form}, cut", content[: len(content) // 2]
        yield f"{form}, with noise", content[:20] + bytes(range(256)) + content[276:]
    for width, height in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 0), (1, 2**31 - 1), (30_000, 30_000)):
        yield f"PNG of {width} x {height}", _png(width, height, zlib.compress(b"\0" * MEGABYTE))
    rows = zlib.compress(b"\0" * (1 + 20_000 // 8) * 20_000)
    yield "PNG whose 400 million pixels are there", _png(20_000, 20_000, rows, depth=1)
    text = _chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 64 * MEGABYTE))
    profile = _chunk(b"iCCP", b"k\0\0" + zlib.compress(b"x" * 64 * MEGABYTE))
    yield "PNG with a text that is a bomb", _png(8, 8, zlib.compress(b"\0" * 72), before=text * 3)
    yield "PNG with a profile that is a bomb", _png(8, 8, zlib.compress(b"\0" * 72), before=profile)
    yield "JPEG of 65,500 x 65,500", _jpeg(65_500, 65_500)
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "nothing", b""


def _png(width: int, height: int, data: bytes, depth: int = 8, before: bytes = b"") -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _jpeg(width: int, height: int) -> bytes:
    """A sound small file whose head says another size."""
    from PIL import Image

    saved = io.BytesIO()
    Image.new("L", (8, 8)).save(saved, "JPEG")
    content = bytearray(saved.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def _arrays() -> Iterator[Body]:
    saved = io.BytesIO()
    np.save(saved, np.zeros((2, 3), np.float32))
    sound = saved.getvalue()
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)
    heads = ("(2**62,)", "(-1,)", "(10**9, 10**9)", "(1,) * 1000", "__import__('os')", "(2, 3", "('a',)", "(1e9,)")
    files = {"sound": sound, "pickled": objects.getvalue(), "cut": sound[:-5], "head alone": sound[:64], "empty": b""}
    files |= {f"shape {text}": _npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}") for text in heads}
    files |= {
        f"type {text}": _npy(f"{{'descr': '{text}', 'fortran_order': False, 'shape': (2,), }}")
        for text in ("|O", "<U1000000000", "<f99", "V8", "<M8[s]", "", "<f2")
    }
    files["version 9"] = sound[:6] + b"\x09" + sound[7:]
    files["head of 4 GB"] = b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 1000
    files["deep head"] = _npy("(" * 60_000)
    for name, content in files.items():
        yield Body(f"npy: {name}", content, {"content-type": "application/x-npy"})
        yield Body(f"octets: {name}", content, {"content-type": "application/octet-stream"})


def _npy(head: str) -> bytes:
    text = head.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0" * 24


def _tables(row: dict[str, object]) -> Iterator[Body]:
    names, values = ",".join(row), ",".join(map(str, row.values()))
    tables = {
        "sound": f"{names}\n{values}\n",
        "a quote that is open": f'{names}\n"{values}\n',
        "a field of megabytes": f"{names}\n{'x' * MEGABYTE}\n",
        "many columns": ",".join(f"c{i}" for i in range(200_000)) + "\n",
        "many rows": f"{names}\n" + "\n" * 10**6,
        "more fields than names": f"{names}\n{values},{values}\n",
        "no names": "\n\n\n",
        "zero bytes": "\0,\0\n\0",
        "a formula": f"{names}\n=cmd|' /C calc'!A0\n",
        "empty": "",
    }
    for name, text in tables.items():
        yield Body(f"csv: {name}", text.encode(), {"content-type": "text/csv"})
    sound = json.dumps(row)
    for name, lines in {
        "sound": sound,
        "blank lines": "\n" * 100_000,
        "half a line": f"{sound}\n{sound[:20]}",
        "many": "{}\n" * 500_000,
        "lists": "[]\n[1]\n",
    }.items():
        for media in ("application/jsonlines", "application/x-ndjson"):
            yield Body(f"{media}: {name}", lines.encode(), {"content-type": media})
    for media in (
        "text/xml",
        "multipart/form-data; boundary=x",
        "image/gif",
        "",
        "a" * 5000,
        "application/json;;;",
        "/",
    ):
        yield Body(f"media {media:.30}", sound.encode(), {"content-type": media})
