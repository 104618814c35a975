"""Pictures, texts, many classes and values over real HTTP, each with a real network behind it."""

import base64
import csv
import gc
import io
import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from contract import bundle, proof
from contract.images import encode_png
from contract.runtimes import LiteRT, SavedModel
from hornpipe import main
from service.monitor import Monitor
from tests import kinds
from tests.conftest import Serve, serving
from tests.contract.test_images import png_header
from tests.kinds import Kind
from tests.service.test_metrics import bins, scrape, settled, value
from tests.service.test_predict import details, error
from tests.waiting import wait_until


@pytest.fixture(scope="session")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return kinds.made(tmp_path_factory, "digits", "diabetes", "texts")


@pytest.fixture
def models(every_kind: dict[str, Kind], tmp_path: Path) -> Path:
    """All of them in production. Takes the place of the flights' fixture, on which `serve` stands."""
    return in_production(every_kind, tmp_path / "models")


@pytest.fixture(scope="module")
def client(every_kind: dict[str, Kind], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One service for all tests that only ask: the texts bring TensorFlow, which takes seconds to start."""
    with serving(in_production(every_kind, tmp_path_factory.mktemp("served"))) as running:
        yield running.client


def in_production(every_kind: dict[str, Kind], folder: Path) -> Path:
    for kind in every_kind.values():
        kinds.put(kind, folder)
    return folder


@pytest.fixture
def digits(every_kind: dict[str, Kind]) -> Kind:
    return every_kind["digits"]


@pytest.fixture
def diabetes(every_kind: dict[str, Kind]) -> Kind:
    return every_kind["diabetes"]


@pytest.fixture
def texts(every_kind: dict[str, Kind]) -> Kind:
    return every_kind["texts"]


def ask(client: httpx.Client, model: str, *rows: object) -> httpx.Response:
    return client.post("/predict", json={"instances": list(rows), "model": model})


def predictions(client: httpx.Client, model: str, *rows: object) -> list[dict[str, Any]]:
    answers = ask(client, model, *rows).raise_for_status().json()["predictions"]
    assert len(answers) == len(rows)
    return answers


def pixels(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(row["picture"]["b64"]))))


def test_every_variant_proves_itself(every_kind: dict[str, Kind]) -> None:
    for kind in every_kind.values():
        lines = list(proof.verify_everywhere(kind.bundle.path))
        assert len(lines) == 1 + len(kind.bundle.manifest.variants)
        assert all("5 golden examples within" in line for line in lines[1:])


def test_many_pictures_of_many_classes_are_answered_as_keras_answers(client: httpx.Client, digits: Kind) -> None:
    answers = predictions(client, "digits", *digits.rows)
    probabilities = np.array([[answer["probabilities"][name] for name in kinds.DIGITS] for answer in answers])

    np.testing.assert_allclose(probabilities, digits.answers, atol=1e-4)
    assert [answer["label"] for answer in answers] == [str(i) for i in probabilities.argmax(axis=1)]
    assert [answer["probability"] for answer in answers] == probabilities.max(axis=1).tolist()
    assert np.mean([int(answer["label"]) for answer in answers] == digits.labels) > 0.85


def test_a_picture_may_be_lists_or_a_file_of_another_size_and_colour(client: httpx.Client, digits: Kind) -> None:
    square = pixels(digits.rows[0])
    large = Image.fromarray(np.kron(square, np.ones((40, 40), np.uint8))).convert("RGB")
    jpeg = io.BytesIO()
    large.save(jpeg, "JPEG", quality=95)
    rows = [digits.rows[0]["picture"], square.tolist(), square[:, :, None].tolist(), (square * 1.0).tolist()]
    file, *lists, photo = predictions(
        client, "digits", *({"picture": each} for each in [*rows, {"b64": base64.b64encode(jpeg.getvalue()).decode()}])
    )

    assert lists == [file] * 3
    assert photo["label"] == file["label"]
    assert photo["probability"] == pytest.approx(file["probability"], abs=0.05)


def cut(text: str) -> str:
    return base64.b64encode(base64.b64decode(text)[:-40]).decode()


def test_every_wrong_picture_is_named(client: httpx.Client, digits: Kind) -> None:
    good = pixels(digits.rows[0]).tolist()
    gif = io.BytesIO()
    Image.fromarray(pixels(digits.rows[0])).save(gif, "GIF")
    wrong = {
        "has another shape": [good[:7], [line[:7] for line in good], [[[x, x, x] for x in line] for line in good], []],
        "is not the value of a pixel": [[*good[:7], [0.5, *good[7][1:]]], [*good[:7], [None, *good[7][1:]]]],
        "wrong type": [7, "picture", {"url": "x"}, {"b64": digits.rows[0]["picture"]["b64"], "more": 1}, {"b64": 7}],
        "is not base64": [{"b64": "****"}, {"b64": "é"}, {"b64": "data:image/png;base64,AAAA"}],
        "is not a picture that can be read": [
            {"b64": base64.b64encode(data).decode()}
            for data in (b"", b"text", gif.getvalue(), png_header(9000, 9000), png_header(8, 8))
        ]
        + [{"b64": cut(digits.rows[0]["picture"]["b64"])}],
        "required feature is missing": [None],
    }
    rows = [(problem, {"picture": each}) for problem, pictures in wrong.items() for each in pictures]
    answer = error(ask(client, "digits", digits.rows[1], *(row for _, row in rows)), 422, "invalid_request")

    assert [each["problem"] for each in answer["details"]] == [problem for problem, _ in rows]
    for i, each in enumerate(answer["details"], 1):
        assert each["path"].startswith(f"instances[{i}].picture")
        assert each["received"]
    received = {each["received"] for each in answer["details"]}
    assert {"shape [8, 8, 3]", "shape [7, 8]", "0.5", "null", "9000 x 9000 pixels, more than 50000000"} <= received
    assert predictions(client, "digits", digits.rows[1])


def test_a_request_holds_only_so_many_pictures(
    serve: Serve, digits: Kind, monkeypatch: pytest.MonkeyPatch, diabetes: Kind
) -> None:
    """The files are small, what they unpack to is not; rows of numbers are as many as the settings say."""
    monkeypatch.setattr("service.versions.loaded.MOST_PICTURE_VALUES", 10 * 64)
    client = serve()

    assert predictions(client, "digits", *digits.rows[:10])
    answer = error(ask(client, "digits", *digits.rows[:11]), 422, "too_many_rows")
    assert answer["message"] == "11 instances in one request, the limit of digits is 10"
    assert predictions(client, "diabetes", *diabetes.rows[:40])


@pytest.mark.parametrize("runtime", [LiteRT, SavedModel])
def test_pictures_that_are_run_in_parts_are_all_answered(
    runtime: type, digits: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("litert", "savedmodel"):
        monkeypatch.setattr(f"contract.{module}.VALUES_AT_ONCE", 7 * 64)
    path = digits.bundle.path / ("variants/litert-float32.tflite" if runtime is LiteRT else ".")
    encoded = kinds.Encoder(digits.bundle.manifest.features).encode(digits.rows[:30])

    np.testing.assert_allclose(runtime(path).run(encoded)["probabilities"], digits.answers[:30], atol=1e-5)


def test_texts_are_answered_as_keras_answers(client: httpx.Client, texts: Kind) -> None:
    answers = predictions(client, "texts", *texts.rows)
    sport = np.array([answer["probabilities"]["sport"] for answer in answers])
    (serving,) = [m["serving"] for m in client.get("/models").json()["models"] if m["name"] == "texts"]

    np.testing.assert_allclose(sport, texts.answers, atol=1e-5)
    assert [a["label"] for a in answers] == ["sport" if p >= 0.5 else "weather" for p in sport]
    assert np.mean((sport >= 0.5) == texts.labels) > 0.95
    assert (serving["runtime"], serving["variant"]) == ("savedmodel", "savedmodel-float32")


def test_a_missing_text_is_an_empty_one_and_any_letters_are_letters(client: httpx.Client, texts: Kind) -> None:
    body = "snow over Genève \u2014 \U0001f328\x00\u0301 \u0639\u0631\u0628\u064a"
    none, null, empty = predictions(client, "texts", {"body": body}, *({"body": body, "title": t} for t in (None, "")))

    assert none == null == empty
    assert none["label"] == "weather"


def test_every_wrong_text_is_named(client: httpx.Client, texts: Kind) -> None:
    rows = [
        {"body": 7},
        {"body": ["a"]},
        {"body": "x" * 201},
        {"title": "only"},
        {"body": ""},
        {"body": "x", "tilte": ""},
    ]
    answer = details(ask(client, "texts", texts.rows[0], *rows))

    assert answer == {
        "instances[1].body": "wrong type",
        "instances[2].body": "wrong type",
        "instances[3].body": "is too long",
        "instances[4].body": "required feature is missing",
        "instances[5].body": "required feature is missing",
        "instances[6].tilte": "unknown feature",
    }


def test_texts_without_tensorflow_are_refused_in_plain_words(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contract.runtimes.installed", lambda: ["litert"])
    client = serve(ready=False)
    wait_until(lambda: client.get("/readyz").status_code == 200, "the others are ready")

    assert client.get("/readyz").json()["models"]["texts"] == "refused"
    assert "texts/1 needs TensorFlow, because it reads texts, which LiteRT cannot: pip install" in caplog.text
    assert "the image service-tf" in caplog.text


def test_values_are_answered_as_keras_answers_with_an_interval(client: httpx.Client, diabetes: Kind) -> None:
    answers = predictions(client, "diabetes", *diabetes.rows)
    values, low, high = (np.array([answer[key] for answer in answers]) for key in ("value", "low", "high"))
    half = diabetes.bundle.manifest.output.half_width

    np.testing.assert_allclose(values, diabetes.answers, rtol=1e-4)
    np.testing.assert_allclose(high - values, half, rtol=1e-4)
    np.testing.assert_allclose(values - low, half, rtol=1e-4)
    assert all(set(answer) == {"value", "low", "high"} for answer in answers)
    assert np.mean((diabetes.labels >= low) & (diabetes.labels <= high)) == pytest.approx(0.9, abs=0.02)


def test_a_value_that_is_not_finite_is_no_answer(client: httpx.Client, diabetes: Kind) -> None:
    row = dict.fromkeys(diabetes.rows[0], 3e38)

    assert error(ask(client, "diabetes", row), 500, "internal_error")


def test_metrics_count_confidence_labels_and_values(serve: Serve, digits: Kind, diabetes: Kind, texts: Kind) -> None:
    client = serve(quality_seconds=3600)  # the next look would find answers, and show series of them
    before = settled(client)
    labels = [answer["label"] for answer in predictions(client, "digits", *digits.rows[:300])]
    confidence = [answer["probability"] for answer in predictions(client, "digits", *digits.rows[:300])]
    values = [answer["value"] for answer in predictions(client, "diabetes", *diabetes.rows)]
    predictions(client, "texts", *texts.rows)
    samples = scrape(client)

    assert set(before) == set(samples)
    for name in kinds.DIGITS:
        found = value(samples, "hornpipe_predictions_total", model="digits", version="1", label=name)
        assert found == 2 * labels.count(name)
    counted = dict(bins(samples, "hornpipe_output_bin_total", model="digits", output="confidence"))
    assert (sum(counted.values()), counted["non_finite"]) == (600, 0)
    version = {"model": "digits", "version": "1"}
    assert value(samples, "hornpipe_prediction_score_sum", **version) == pytest.approx(2 * sum(confidence), rel=1e-5)
    for output in ("confidence", "entropy", "margin"):
        assert sum(dict(bins(samples, "hornpipe_output_bin_total", model="digits", output=output)).values()) == 600

    version = {"model": "diabetes", "version": "1"}
    assert value(samples, "hornpipe_predictions_total", **version, label="") == len(values)
    assert value(samples, "hornpipe_prediction_score_sum", **version) == pytest.approx(sum(values), rel=1e-5)
    assert sum(dict(bins(samples, "hornpipe_output_bin_total", model="diabetes", output="value")).values()) == len(
        values
    )
    assert sum(dict(bins(samples, "hornpipe_input_bin_total", model="diabetes", feature="bmi")).values()) == len(values)


def test_what_pictures_and_texts_look_like_is_counted(serve: Serve, digits: Kind, texts: Kind) -> None:
    client = serve()
    pictures = np.concatenate([digits.encoded.image[:100], 255 - digits.encoded.image[:100]])
    predictions(client, "digits", *({"picture": {"b64": encode_png(picture)}} for picture in pictures))
    predictions(client, "texts", *({"body": "storm rain cloud wind snow"} for _ in range(7)))
    predictions(client, "texts", {"body": "floccinaucinihilipilification", "title": "x" * 199}, {"body": "..."})
    samples = scrape(client)

    def counted(model: str, feature: str) -> dict[str, float]:
        return dict(bins(samples, "hornpipe_input_bin_total", model=model, feature=feature))

    baseline, whole = digits.bundle.manifest.drift.inputs, pictures.reshape(200, -1)
    assert set(baseline) == {f"picture.{each}" for each in ("mean", "contrast", "sharpness", "dark", "bright")}
    seen = {"mean": whole.mean(axis=1), "dark": (whole == 0).mean(axis=1), "bright": (whole == 255).mean(axis=1)}
    for name, values in seen.items():
        edges = np.array(baseline[f"picture.{name}"].edges)
        inner = np.histogram(values.astype(np.float32), edges)[0].tolist()
        expected = [(values < edges[0]).sum(), *inner, (values > edges[-1]).sum(), 0, 0]
        assert list(counted("digits", f"picture.{name}").values()) == expected
    assert counted("digits", "picture.mean")["above"] == 100

    lengths, unknown = counted("texts", "body.length"), counted("texts", "body.unknown")
    shortest = min(len(row["body"]) for row in texts.rows)
    assert (lengths["below"], sum(lengths.values())) == (sum(n < shortest for n in (26,) * 7 + (29, 3)), 9)
    assert (counted("texts", "title.length")["missing"], counted("texts", "title.length")["above"]) == (8, 1)
    assert (unknown["above"], unknown["missing"], sum(unknown.values())) == (1, 1, 9)


def test_pictures_are_not_held_until_they_are_counted(digits: Kind) -> None:
    encoder = kinds.Encoder(digits.bundle.manifest.features)
    monitor = Monitor(digits.bundle.manifest, encoder)
    encoded = encoder.encode(digits.rows[:3])
    picture = weakref.ref(encoded.image)
    monitor.observe(encoded, {"probabilities": digits.answers[:3]}, 3)
    del encoded
    gc.collect()

    assert picture() is None
    assert sum(monitor.labels().values()) == 3


def test_openapi_describes_every_kind_and_its_examples_are_answered(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    post = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    schemas = schema["components"]["schemas"]
    file, lists, flat = schemas["Instance.digits"]["properties"]["picture"]["oneOf"]
    classified, estimated = schemas["Prediction"]["oneOf"]

    for example in post["examples"].values():
        answer = client.post("/predict", json=example["value"]).raise_for_status().json()["predictions"][0]
        required = [set(kind["required"]) for kind in (classified, estimated)]
        assert set(answer) in required
    assert set(post["examples"]) == {"digits", "diabetes", "texts"}
    assert file["required"] == ["b64"]
    assert (lists["minItems"], lists["items"]["items"]["items"]["maximum"]) == (8, 255)
    assert flat["items"]["items"] == {"type": "integer", "minimum": 0, "maximum": 255}
    assert schemas["Instance.texts"]["properties"]["body"]["maxLength"] == 200
    assert schemas["Instance.texts"]["required"] == ["body"]
    assert "90%" in estimated["properties"]["low"]["description"]


def test_a_folder_of_pictures_is_scored_file_by_file(models: Path, digits: Kind, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    names = ["a.png", "b.PNG", "more/c.png"]
    for name, row in zip(names, digits.rows, strict=False):
        (folder / name).write_bytes(base64.b64decode(row["picture"]["b64"]))
    (folder / "notes.txt").write_text("not a picture")
    (tmp_path / "rows.csv").write_text("picture\n" + "".join(f"pictures/{name}\n" for name in names))
    for source, target in ((folder, "a.csv"), (folder, "a.jsonl"), (folder, "a.parquet"), ("rows.csv", "b.csv")):
        assert (
            main(["predict", "digits", str(tmp_path / source), "-o", str(tmp_path / target), "--models", str(models)])
            == 0
        )

    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == names
    for row, answer in zip(rows, digits.answers, strict=False):
        assert [float(row[f"probability_{name}"]) for name in kinds.DIGITS] == pytest.approx(answer, abs=1e-4)
        assert row["label"] == str(answer.argmax())
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == names
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "a.parquet")["file"].to_pylist() == names
    with (tmp_path / "b.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [row["label"] for row in rows]


def test_a_folder_with_a_broken_picture_is_named_by_its_file(
    models: Path, digits: Kind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(base64.b64decode(digits.rows[0]["picture"]["b64"]))
    (folder / "b.png").write_bytes(b"broken")
    arguments = ["-o", str(tmp_path / "out.csv"), "--models", str(models)]

    assert main(["predict", "digits", str(folder), *arguments]) == 1
    assert "  b.png.picture.b64: is not a picture that can be read" in capsys.readouterr().err
    assert main(["predict", "texts", str(folder), *arguments]) == 1
    assert "is a folder, but the model's features are not one picture: title, body" in capsys.readouterr().err
    (folder / "b.png").unlink()
    (tmp_path / "rows.csv").write_text("picture\nnowhere.png\n")
    assert main(["predict", "digits", str(tmp_path / "rows.csv"), *arguments]) == 1
    assert "nowhere.png: No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_texts_and_values_of_a_file(models: Path, texts: Kind, diabetes: Kind, tmp_path: Path) -> None:
    """NA and the empty cell are no numbers, but they are texts."""
    with (tmp_path / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["title", "body"])
        writer.writeheader()
        writer.writerows([*texts.rows[:20], {"title": "NA", "body": "NA"}])
    (tmp_path / "values.jsonl").write_text("".join(json.dumps(row) + "\n" for row in diabetes.rows[:20]))
    for name, source in (("texts", "texts.csv"), ("diabetes", "values.jsonl")):
        arguments = ["-o", str(tmp_path / f"{name}.out.csv"), "--models", str(models)]
        assert main(["predict", name, str(tmp_path / source), *arguments]) == 0

    with (tmp_path / "texts.out.csv").open(newline="") as file:
        scored = [float(row["probability_sport"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(scored[:20], texts.answers[:20], atol=1e-5)
    assert len(scored) == 21
    with (tmp_path / "diabetes.out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["value", "low", "high"]
    np.testing.assert_allclose([float(row["value"]) for row in rows], diabetes.answers[:20], rtol=1e-4)


def test_what_is_known_of_a_version_is_shown(
    client: httpx.Client, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "--models", str(models)]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 4
    assert "rmse 0.9000" in lines[1]
    assert client.get("/models/diabetes").json()["versions"][0]["headline"] == "rmse"
    manifest = client.get("/models/digits/versions/1").json()
    assert manifest["features"][0]["shape"] == [8, 8, 1]
    assert math.isclose(sum(manifest["golden"][0]["outputs"]["probabilities"]), 1, rel_tol=1e-5)
    assert bundle.read_version(models, "digits", 1).manifest.golden[0].row["picture"]["b64"]


def test_a_picture_of_224_by_224_as_floats_fits_into_a_request_of_the_default_limit() -> None:
    """The least that the default must allow: numbers as Python's json writes them."""
    from service.settings import Settings

    picture = np.random.default_rng(0).random((224, 224, 3)).tolist()
    assert 5 * len(json.dumps(picture)) < Settings().max_body_bytes
    whole = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert 20 * len(json.dumps(whole.tolist())) < Settings().max_body_bytes
    assert len(encode_png(whole)) < len(json.dumps(whole.tolist())) / 3
