"""Folders of pictures: read as the service reads them, split by class, and every broken file named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.images import decode
from contract.manifest import ImageFeature
from training import config, data
from training.errors import DataError
from training.rows import Rows
from training.sources import images


def picture(seed: int, *shape: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, shape or (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty cats and twenty dogs, 8 pixels wide and 6 high, PNG and JPEG."""
    for label, count in {"cat": 40, "dog": 20}.items():
        (tmp_path / label).mkdir()
        for i in range(count):
            picture(1000 * count + i).save(tmp_path / label / f"{i:03}.{'jpg' if i % 2 else 'png'}")
    return tmp_path


def checked(folder: Path, **sections: object) -> config.TrainingConfig:
    raw = {
        "name": "pets",
        "task": "binary",
        "data": {"path": str(folder), "positive": "dog"},
        "split": {"by": "random", "validation": 0.1, "test": 0.2},
        "features": {"photo": "image"},
        "model": {"preset": "image"},
    }
    return config.parse(raw | sections)


def problems(folder: Path, **sections: object) -> str:
    with pytest.raises(DataError) as caught:
        data.prepare(checked(folder, **sections))
    return "\n".join(caught.value.problems)


def test_pictures_are_what_the_service_reads(folder: Path) -> None:
    prepared = data.prepare(checked(folder))
    (feature,) = prepared.encoder.features
    sent = prepared.raw_test(range(len(prepared.test)))

    assert isinstance(feature, ImageFeature)
    assert (feature.name, feature.shape, feature.dtype) == ("photo", (6, 8, 3), "uint8")
    np.testing.assert_array_equal(prepared.encoder.encode(sent).image, prepared.test.encoded.image)


def test_every_class_has_its_share_in_every_part(folder: Path) -> None:
    prepared = data.prepare(checked(folder))
    parts = [prepared.sample.labels, prepared.validation.labels, prepared.test.labels]

    assert prepared.classes == ("cat", "dog")
    assert [(int((part == 0).sum()), int((part == 1).sum())) for part in parts] == [(28, 14), (4, 2), (8, 4)]


def test_no_picture_is_in_two_parts_and_none_is_lost(folder: Path) -> None:
    prepared = data.prepare(checked(folder))
    parts = [prepared.sample, prepared.validation, prepared.test]
    seen = {rows.encoded.image[i].tobytes() for rows in parts for i in range(len(rows))}
    feature = prepared.encoder.features[0]

    assert seen == {decode(path.read_bytes(), feature).tobytes() for path in folder.rglob("*.*g")}


def test_size_and_channels_are_as_the_config_says(folder: Path) -> None:
    features = {"photo": {"kind": "image", "size": [4, 5], "channels": 1}}

    assert data.prepare(checked(folder, features=features)).test.encoded.image.shape == (12, 4, 5, 1)


def test_the_first_picture_says_size_and_channels_as_it_is_shown(folder: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(0, 6, 8).save(folder / "cat" / "000.jpg", exif=turned)
    (folder / "cat" / "000.png").unlink()

    assert data.prepare(checked(folder)).encoder.features[0].shape == (8, 6, 1)


def test_many_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for label in range(12):
        (tmp_path / str(label)).mkdir()
        for i in range(4):
            picture(10 * label + i).save(tmp_path / str(label) / f"{i}.png")
    prepared = data.prepare(checked(tmp_path, task="multiclass", data={"path": str(tmp_path)}))

    assert prepared.classes == tuple(map(str, range(12)))
    assert prepared.sample.labels.dtype == np.int32


def test_the_order_split_goes_by_file_name_across_classes(folder: Path) -> None:
    split = {"by": "order", "validation": 0.1, "test": 0.2}
    prepared = data.prepare(checked(folder, task="multiclass", data={"path": str(folder)}, split=split))

    assert prepared.test.labels.tolist() == [0] * 12  # there are cats up to 039, dogs up to 019
    assert prepared.sample.labels.sum() == 20


def test_the_fingerprint_is_of_the_pictures_and_their_classes(folder: Path) -> None:
    before = data.prepare(checked(folder)).fingerprint
    again = data.prepare(checked(folder)).fingerprint
    (folder / "cat" / "004.png").rename(folder / "dog" / "0040.png")

    assert before == again
    assert data.prepare(checked(folder)).fingerprint != before


def test_all_broken_pictures_are_named(folder: Path) -> None:
    (folder / "cat" / "000.png").write_bytes(b"no picture")
    whole = (folder / "dog" / "001.jpg").read_bytes()
    (folder / "dog" / "001.jpg").write_bytes(whole[: len(whole) // 2])
    text = problems(folder)

    assert len(text.splitlines()) == 2
    assert "cat/000.png: 10 bytes that are no PNG, JPEG or WebP file" in text
    assert "dog/001.jpg: a damaged or truncated file" in text


def test_more_broken_pictures_than_anyone_reads_are_counted(folder: Path) -> None:
    for path in folder.rglob("*.*g"):
        path.write_bytes(b"")

    assert problems(folder).endswith("and 40 more")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"path": "", "positive": "dog", "target": "class"}}, "data.target: the class of a picture is the"),
        ({"data": {"path": "", "positive": "doc"}}, "class: data.positive is 'doc'; did you mean 'dog'?"),
        ({"task": "regression", "data": {"path": ""}}, "task: a folder of pictures has classes"),
        ({"split": {"by": "group", "column": "owner"}}, "split.by: pictures have no columns to split by group"),
        ({"features": {"size": "number"}, "model": {}}, "features: a folder of pictures has one feature"),
    ],
)
def test_a_config_that_is_not_for_pictures(folder: Path, sections: dict[str, dict[str, object]], message: str) -> None:
    if "data" in sections:
        sections["data"]["path"] = str(folder)

    assert message in problems(folder, **sections)


def test_folders_that_are_not_classes(folder: Path) -> None:
    picture(1).save(folder / "stray.png")
    (folder / "bird").mkdir()
    text = problems(folder)

    assert "1 pictures are in no class's subfolder: stray.png" in text
    assert "class bird: 0 pictures; at least 3 are needed" in text


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds nine pictures of a part, and reads seven at a time."""
    monkeypatch.setattr(images, "STREAM_FROM_BYTES", 59 * 6 * 8 * 3)
    monkeypatch.setattr(images, "KEPT_BYTES", 9 * 6 * 8 * 3)
    monkeypatch.setattr(images, "CHUNK", 7)


def test_more_pictures_than_memory_holds_are_read_in_every_epoch(folder: Path, small_memory: None) -> None:
    streamed = data.prepare(checked(folder))
    whole = data.prepare(checked(folder, data={"path": str(folder), "positive": "dog", "stream": False}))
    blocks = replace(streamed.train, block_bytes=4 * 6 * 8 * 3)
    orders = [blocks.order(0, epoch) for epoch in (0, 0, 1)]
    rows = [blocks.load(block) for block in orders[0]]

    assert orders[0] == orders[1] != orders[2]
    assert [len(part) for part in rows] == [blocks.rows_in(block) for block in orders[0]] == [4] * 10 + [2]
    assert in_any_order(rows) == in_any_order([whole.sample])
    assert streamed.fingerprint == whole.fingerprint
    assert streamed.classes == whole.classes


def test_pictures_that_validate_and_test_are_kept_as_far_as_there_is_room(folder: Path, small_memory: None) -> None:
    streamed = data.prepare(checked(folder))
    whole = data.prepare(checked(folder, data={"path": str(folder), "positive": "dog", "stream": False}))
    sent = streamed.encoder.encode(streamed.raw_test(range(9)))

    assert (len(streamed.sample), len(streamed.validation), len(streamed.test)) == (9, 6, 9)
    assert [warning.seen for warning in streamed.warnings if warning.check == "sample"] == [
        "12 rows test; 9 of them, drawn evenly, are used"
    ]
    np.testing.assert_array_equal(streamed.validation.encoded.image, whole.validation.encoded.image)
    assert in_any_order([streamed.test]) < in_any_order([whole.test])
    np.testing.assert_array_equal(sent.image, streamed.test.encoded.image)


def in_any_order(parts: list[Rows]) -> set[tuple[bytes, float]]:
    return {(part.encoded.image[i].tobytes(), float(part.labels[i])) for part in parts for i in range(len(part))}


def test_broken_pictures_are_named_before_anything_trains(folder: Path, small_memory: None) -> None:
    for name in ("cat/000.png", "dog/008.png"):
        (folder / name).write_bytes(b"no picture")
    text = problems(folder)

    assert ("cat/000.png: 10 bytes" in text, "dog/008.png: 10 bytes" in text) == (True, True)


def test_a_picture_that_goes_missing_while_training_is_named(folder: Path, small_memory: None) -> None:
    blocks = data.prepare(checked(folder)).train
    (folder / "cat" / "000.png").unlink()
    (folder / "cat" / "001.jpg").unlink()

    with pytest.raises(DataError, match=r"cat/00[01]"):
        [blocks.load(block) for block in blocks.order(0, 0)]
