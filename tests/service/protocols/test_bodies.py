"""POST /predict with other bodies than JSON, and other answers; NumPy and Pillow make the one and read the other."""

import gzip
import io
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from contract import images
from contract.kinds import TensorFeature
from service.errors import BodyTooLarge, InvalidRequest
from service.wire import bodies, packed, replies
from tests.kinds import Kind

NPY, OCTETS = "application/x-npy", "application/octet-stream"


def ask(client: httpx.Client, model: str, body: bytes, media: str, **headers: str) -> httpx.Response:
    return client.post(f"/predict?model={model}", content=body, headers={"content-type": media, **headers})


def predictions(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def told(response: httpx.Response, status: int = 422, code: str = "invalid_request") -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    details = "; ".join(f"{each['path']}: {each['problem']}, {each['received']}" for each in error["details"])
    return f"{error['message']}: {details}"


def npy(array: np.ndarray, **more: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **more)
    return file.getvalue()


def picture(pixels: np.ndarray, form: str, **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, form, **more)
    return file.getvalue()


def probabilities(answers: list[dict[str, Any]]) -> np.ndarray:
    return np.array([list(each["probabilities"].values()) for each in answers])


def pixels_of(kind: Kind, count: int) -> np.ndarray:
    encoded = [images.read("", _feature(kind), row["picture"]) for row in kind.rows[:count]]
    return np.stack(encoded)  # type: ignore[arg-type]


def _feature(kind: Kind) -> Any:
    return kind.bundle.manifest.features[0]


def numbers_of(kind: Kind, count: int) -> np.ndarray:
    names = [feature.name for feature in kind.bundle.manifest.features]
    return np.array([[row[name] for name in names] for row in kind.rows[:count]], np.float32)


def test_npy_of_pictures_numbers_and_tensors(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    digits, diabetes = every_kind["digits"], every_kind["diabetes"]
    pixels = pixels_of(digits, 3)
    for array in (pixels, pixels[..., 0], pixels.astype(np.float64), np.asfortranarray(pixels)):
        found = probabilities(predictions(ask(client, "digits", npy(array), NPY)))
        np.testing.assert_allclose(found, digits.answers[:3], atol=1e-4)
    one = predictions(ask(client, "digits", npy(pixels[0]), NPY))
    np.testing.assert_allclose(probabilities(one), digits.answers[:1], atol=1e-4)

    numbers = numbers_of(diabetes, 4)
    for array, count in ((numbers, 4), (numbers.astype(">f8"), 4), (numbers[0], 1)):
        values = [each["value"] for each in predictions(ask(client, "diabetes", npy(array), NPY))]
        np.testing.assert_allclose(values, diabetes.answers[:count], rtol=1e-4)
    assert predictions(ask(client, "vector", npy(np.array([[1, 2, 5]], np.int32)), NPY)) == [[2, 4, 10]]


def test_raw_tensors(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    digits, diabetes = every_kind["digits"], every_kind["diabetes"]
    pixels, numbers = pixels_of(digits, 3), numbers_of(diabetes, 4)
    found = probabilities(predictions(ask(client, "digits", pixels.tobytes(), OCTETS)))
    stated = predictions(ask(client, "digits", pixels.tobytes(), OCTETS, **{"X-Tensor-Shape": "3, 8,8"}))
    values = [each["value"] for each in predictions(ask(client, "diabetes", numbers.tobytes(), OCTETS))]

    np.testing.assert_allclose(found, digits.answers[:3], atol=1e-4)
    np.testing.assert_allclose(probabilities(stated), digits.answers[:3], atol=1e-4)
    np.testing.assert_allclose(values, diabetes.answers[:4], rtol=1e-4)
    assert predictions(ask(client, "vector", np.float32([1, 2, 5]).tobytes(), OCTETS)) == [[2, 4, 10]]


@pytest.mark.parametrize(("form", "media"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_picture_files(client: httpx.Client, every_kind: dict[str, Kind], form: str, media: str) -> None:
    """One of its own size, and one four times as large; each is what the bytes say in training too."""
    digits = every_kind["digits"]
    small = pixels_of(digits, 1)[0]
    for pixels in (small, np.kron(small[..., 0], np.ones((4, 4), np.uint8))):
        content = picture(pixels, form)
        expected = images.decode(content, _feature(digits))
        raw = probabilities(predictions(ask(client, "digits", expected.tobytes(), OCTETS)))
        np.testing.assert_array_equal(probabilities(predictions(ask(client, "digits", content, media))), raw)
    if form == "PNG":
        np.testing.assert_allclose(raw, digits.answers[:1], atol=0.5)


def test_webp_without_loss_is_what_it_was(every_kind: dict[str, Kind]) -> None:
    digits = every_kind["digits"]
    for pixels in pixels_of(digits, 5):
        content = picture(np.repeat(pixels, 3, axis=2), "WEBP", lossless=True)
        np.testing.assert_array_equal(images.decode(content, _feature(digits)), pixels)


def test_tables(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    diabetes = every_kind["diabetes"]
    names = list(diabetes.rows[0])[::-1]
    lines = [",".join(names), *(",".join(repr(row[name]) for name in names) for row in diabetes.rows[:3])]
    for text in ("\n".join(lines), "\ufeff" + "\r\n".join(lines) + "\r\n", "\n\n".join(lines)):
        values = [each["value"] for each in predictions(ask(client, "diabetes", text.encode(), "text/csv"))]
        np.testing.assert_allclose(values, diabetes.answers[:3], rtol=1e-4)


def test_lines_in_and_out(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    digits = every_kind["digits"]
    body = b"\n".join(json.dumps(row).encode() for row in digits.rows[:3])
    expected = predictions(ask(client, "digits", body, "application/x-ndjson"))
    response = ask(client, "digits", body, "application/jsonl", accept="application/jsonl")

    np.testing.assert_allclose(probabilities(expected), digits.answers[:3], atol=1e-4)
    assert response.headers["content-type"] == "application/jsonl"
    assert [json.loads(line) for line in response.text.splitlines()] == expected
    assert (response.headers["x-model"], response.headers["x-model-version"]) == ("digits", "1")


def test_answers_as_arrays(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    pixels = pixels_of(every_kind["digits"], 3)
    as_npy = ask(client, "digits", npy(pixels), NPY, accept=NPY)
    raw = ask(client, "digits", npy(pixels), NPY, accept="text/html, application/octet-stream;q=0.9, */*;q=0.1")
    array = np.load(io.BytesIO(as_npy.content))

    assert as_npy.headers["content-type"] == NPY
    np.testing.assert_allclose(array, every_kind["digits"].answers[:3], atol=1e-4)
    assert (raw.headers["content-type"], raw.headers["x-tensor-name"]) == (OCTETS, "probabilities")
    assert (raw.headers["x-tensor-datatype"], raw.headers["x-tensor-shape"]) == ("FP32", "3,10")
    np.testing.assert_array_equal(np.frombuffer(raw.content, "<f4").reshape(3, 10), array)
    body = {"instances": [{"x": [1, 2, 3], "y": 1}], "model": "plus"}
    assert "outputs are" in told(client.post("/predict", json=body, headers={"accept": NPY}))


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        (b"text/html", "application/json"),
        (b"application/x-npy;q=0.2, application/json", "application/json"),
        (b"application/x-npy;q=0.9, application/json;q=0.5", "application/x-npy"),
        (b"APPLICATION/X-NPY; q=1", "application/x-npy"),
        (b"application/x-ndjson;q=x, */*", "application/json"),
    ],
)
def test_what_is_wanted(accept: bytes | None, media: str) -> None:
    assert replies.wanted(accept).decode() == media


def test_which_model(client: httpx.Client) -> None:
    body = npy(np.float32([[1, 2, 5]]))
    asked = [
        ("/predict?model=vector&version=1", {}),
        ("/predict?model=vector&label=production", {}),
        ("/predict", {"x-model": "vector", "x-model-version": "1"}),
        ("/predict?model=vector", {"x-model": "digits"}),
    ]
    for path, headers in asked:
        answer = client.post(path, content=body, headers={"content-type": NPY, **headers})
        assert predictions(answer) == [[2, 4, 10]]
    in_query = client.post("/predict?model=vector", json={"instances": [[1, 2, 5]]})
    labelled = client.post("/predict", json={"instances": [[1, 2, 5]], "model": "vector", "label": "stable"})
    assert predictions(in_query) == predictions(labelled) == [[2, 4, 10]]

    assert "nobody" in told(ask(client, "nobody", body, NPY), 404, "unknown_model")
    assert "9 does not serve" in told(ask(client, "vector&version=9", body, NPY), 404, "unknown_version")
    assert "query version: wrong value" in told(ask(client, "vector&version=one", body, NPY))
    assert "query q: unknown key" in told(ask(client, "vector&q=1", body, NPY))
    assert "newest" in told(ask(client, "vector&label=newest", body, NPY), 404, "unknown_label")
    assert "label: wrong type" in told(client.post("/predict", json={"instances": [1], "label": 1, "model": "vector"}))


@pytest.mark.parametrize(
    ("model", "body", "media", "expected"),
    [
        ("digits", b"", NPY, "is no .npy file"),
        ("digits", b"\x93NUMPY\x01\x00\xff\xff{", NPY, "is no .npy file"),
        ("digits", npy(np.zeros((1, 8, 8, 1)))[:-1], NPY, "511 bytes of values, its header says (1, 8, 8, 1)"),
        ("digits", npy(np.array([{}], object)), NPY, "is no .npy file of numbers, bools or strings"),
        ("digits", npy(np.zeros(1, "u1,f4")), NPY, "is no .npy file of numbers"),
        ("digits", npy(np.zeros((1, 8, 9), np.uint8)), NPY, "inputs.picture: has another shape, shape [1, 8, 9]"),
        ("digits", npy(np.full((1, 8, 8), 256)), NPY, "inputs.picture[0][0][0]: is not the value of a pixel, 256"),
        ("digits", npy(np.zeros((51, 8, 8), np.uint8)), NPY, "51 instances in one request"),
        ("diabetes", npy(np.zeros((2, 9), np.float32)), NPY, "expected FP32 [n, 10], got shape [2, 9]"),
        ("digits", b"x" * 65, OCTETS, "expected rows of 64 bytes, UINT8 [8, 8, 1] each, got 65"),
        ("digits", b"", OCTETS, "expected rows of 64 bytes"),
        ("digits", b"no picture", "image/png", "is not a picture that can be read, 10 bytes that are no PNG"),
        ("diabetes", b"", "text/csv", "the request has no rows"),
        ("diabetes", b"age,sex\n", "text/csv", "the request has no rows"),
        ("diabetes", b"age,age\n1,2", "text/csv", "a column's name comes twice"),
        ("diabetes", b"age,sex\n1", "text/csv", "row 1 of the table: expected 2 cells, got 1"),
        ("diabetes", b'age\n"1', "text/csv", "the table is no CSV"),
        ("diabetes", b"age\n\xff", "text/csv", "the table is not UTF-8 at byte 4"),
        ("diabetes", b"agee\n1", "text/csv", "instances[0].agee: unknown feature"),
        ("diabetes", b"age\n1_0", "text/csv", 'instances[0].age: wrong type, "1_0"'),
        ("diabetes", b"age\n" + b"1\n" * 51, "text/csv", "more than 50 rows in one request"),
        ("diabetes", b"\n \n", "application/jsonl", "the request has no rows"),
        ("diabetes", b"{}\n" * 51, "application/jsonl", "51 lines in one request"),
        ("diabetes", b"1", "application/jsonl", "instances[0]: is not a row"),
    ],
)
def test_what_is_wrong(client: httpx.Client, model: str, body: bytes, media: str, expected: str) -> None:
    response = ask(client, model, body, media)
    code = response.json()["error"]["code"]
    assert code in ("invalid_request", "too_many_rows")
    assert expected in told(response, code=code)


def test_a_shape_that_is_stated_wrongly(client: httpx.Client) -> None:
    for shape in ("x", "1,-1", "", "1" * 20):
        assert "X-Tensor-Shape" in told(ask(client, "digits", b"x" * 64, OCTETS, **{"X-Tensor-Shape": shape}))
    text = told(ask(client, "digits", b"x" * 64, OCTETS, **{"X-Tensor-Shape": "9999999999,9999999999"}))
    assert "64 bytes, expected" in text


def test_an_empty_tensor_whose_other_sizes_cannot_be_counted(client: httpx.Client) -> None:
    """NumPy counts bytes without the size that is 0."""
    huge = "9999999999, 9999999999, 9999999999, 0"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({huge}), }}\n".encode()
    file = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    assert "the .npy file: expected sizes beside 0" in told(ask(client, "digits", file, NPY))
    refused = ask(client, "digits", b"", OCTETS, **{"X-Tensor-Shape": huge})
    assert "X-Tensor-Shape: expected sizes beside 0" in told(refused)


def test_every_type_of_tensor_comes_out_as_json(client: httpx.Client) -> None:
    row = {"x": [1, 2], "n": 7, "flag": True, "name": {"b64": "/0FkYQ=="}, "half": [0.5, 1], "wide": 1.5}
    (answer,) = predictions(client.post("/predict", json={"model": "types", "instances": [row]}))
    assert answer == {
        "doubled": [2.0, 4.0],
        "next": 8,
        "opposite": False,
        "greeting": {"b64": "aGkg/0FkYQ=="},
        "name_bytes": {"b64": "/0FkYQ=="},
        "quarter": [0.25, 0.5],
        "wider": 3.0,
    }


@pytest.mark.parametrize(("cell", "value"), [("7", 7), (" -7 ", -7), ("7.5", 7.5), ("1_0", "1_0"), ("٣", "٣")])
def test_a_cell_is_a_whole_number_only_if_it_is_written_as_one(cell: str, value: object) -> None:
    feature = TensorFeature(name="n", dtype="int64", shape=())
    assert list(bodies.read_csv(f"n\n{cell}\n".encode(), (feature,), 10)) == [{"n": value}]


def test_lines_that_are_no_json(client: httpx.Client) -> None:
    message = told(ask(client, "digits", b"{}\n{\n", "application/jsonl"), 400, "not_json")
    assert message.startswith("line 2 is not JSON")


@pytest.mark.parametrize(
    ("model", "body", "media", "expected"),
    [
        ("digits", b"x", "application/x-www-form-urlencoded", "got application/x-www-form-urlencoded; taken: "),
        ("diabetes", b"x", "image/png", "diabetes takes no picture"),
        ("plus", npy(np.zeros((1, 3))), NPY, "plus takes more than one array"),
    ],
)
def test_media_that_are_not_taken(client: httpx.Client, model: str, body: bytes, media: str, expected: str) -> None:
    assert expected in told(ask(client, model, body, media), 415, "unsupported_media_type")


def test_packed(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    body = json.dumps({"instances": every_kind["digits"].rows[:3], "model": "digits"}).encode()
    plain = client.post("/predict", content=body).json()["predictions"]
    large = b" " * 300_000 + body
    for encoding, content in (
        ("gzip", gzip.compress(body)),
        ("GZIP", gzip.compress(body[:50]) + gzip.compress(body[50:])),
        ("deflate", zlib.compress(body)),
        ("gzip", gzip.compress(large, 0)),
        ("identity", body),
    ):
        assert predictions(client.post("/predict", content=content, headers={"content-encoding": encoding})) == plain
    pixels = gzip.compress(npy(pixels_of(every_kind["digits"], 3)))
    assert len(predictions(ask(client, "digits", pixels, NPY, **{"content-encoding": "gzip"}))) == 3
    bomb = gzip.compress(b"\0" * 100_000_000)
    response = client.post("/predict", content=bomb, headers={"content-encoding": "gzip"})
    assert "more than 2000000 bytes" in told(response, 413, "body_too_large")
    unknown = client.post("/predict", content=body, headers={"content-encoding": "br"})
    assert "gzip or deflate, or none, got br" in told(unknown, 415, "unsupported_media_type")


@given(content=st.binary(max_size=300), more=st.binary(max_size=30), most=st.integers(0, 400))
def test_unpacking(content: bytes, more: bytes, most: int) -> None:
    """What was packed comes out, unless it is too much; what was not is refused."""
    whole = gzip.compress(content) + zlib.compress(more)
    if len(content) + len(more) > most:
        with pytest.raises(BodyTooLarge):
            packed.inflate(whole, most)
    else:
        assert packed.inflate(whole, most) == content + more
    with pytest.raises(InvalidRequest):
        packed.inflate(gzip.compress(content)[:-1], 10**6)


@given(data=st.data(), version=st.sampled_from([(1, 0), (2, 0)]))
def test_npy_files_are_read_as_numpy_reads_them(data: st.DataObject, version: tuple[int, int]) -> None:
    dtype = data.draw(st.sampled_from(["?", "i1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f8", "S3", "<U2"]))
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    content = npy(array, version=version)
    np.testing.assert_array_equal(bodies.load_npy(content), np.load(io.BytesIO(content)))


@given(content=st.binary(max_size=200), at=st.integers(0, 150), byte=st.integers(0, 255))
def test_npy_files_that_are_damaged_are_refused_or_read(content: bytes, at: int, byte: int) -> None:
    good = bytearray(npy(np.arange(6, dtype=np.float32).reshape(2, 3)))
    good[min(at, len(good) - 1)] = byte
    for damaged in (content, b"\x93NUMPY\x01\x00" + content, bytes(good)):
        try:
            array = bodies.load_npy(damaged)
        except InvalidRequest:
            continue
        assert array.nbytes <= len(damaged)


@given(body=st.binary(max_size=60), media=st.sampled_from(sorted(each.decode() for each in bodies.READERS)))
def test_anything_is_answered_as_a_clients_fault(client: httpx.Client, body: bytes, media: str) -> None:
    for model in ("digits", "diabetes", "vector", "types"):
        assert ask(client, model, body, media).status_code in (200, 400, 415, 422)
