"""Logged rows with their labels among the data: written by the service's own code, read as every shard is."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from service.labels.training_rows import Columns, Row, write
from training import config, data
from training.errors import DataError
from training.rows import Prepared

START = datetime(2024, 1, 1, tzinfo=UTC)
SPANS = {"by": "time", "column": "day", "validation": "10d", "test": "10d"}
FEATURES = {"size": "number", "color": "category", "note": {"kind": "category", "column": "notiz", "optional": True}}


def shop(rows: int = 300) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "day": [(START + timedelta(days=i / 3)).date() for i in range(rows)],
            "size": rng.normal(size=rows),
            "color": rng.choice(["red", "blue"], rows),
            "notiz": rng.choice(["a", "b"], rows),
            "sold": rng.choice(["yes", "no"], rows),
        }
    )


def logged(count: int, **given: object) -> list[Row]:
    """A row a request, on the days after the shards' last."""
    made = {"size": 7.0, "color": "red", "note": None} | given
    at = [(START + timedelta(days=100 + i / 10)).timestamp() for i in range(count)]
    return [Row(f"r{i}", 0, when, 1, made, "yes" if i % 2 else "no") for i, when in enumerate(at)]


def checked(path: Path, **asked: object) -> config.TrainingConfig:
    section = {"path": str(path), "target": "sold", "positive": "yes", "labelled": True, **asked}
    return config.parse({"name": "shop", "data": section, "split": SPANS, "features": FEATURES})


def prepare(path: Path, rows: Sequence[Row], workdir: Path | None = None, **asked: object) -> Prepared:
    columns = Columns("sold", {"note": "notiz"})
    return data.prepare(
        checked(path, **asked), workdir, lambda _, target: write(lambda: map(columns.flat, rows), target)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    pq.write_table(shop(), folder / "shop.parquet")
    return folder


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_logged_rows_are_rows_of_the_day_when_they_were_predicted(tmp_path: Path, form: str, stream: bool) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (pq.write_table if form == "parquet" else pyarrow.csv.write_csv)(shop(), folder / f"shop.{form}")
    prepared = prepare(folder, logged(60), tmp_path / "run", stream=stream and form == "parquet")

    assert prepared.all_rows == 360
    assert prepared.newest == datetime(2024, 4, 15, tzinfo=UTC)  # day 105
    # Ten days until then: 6 of logged rows, day 100 to 105, and 4 of the shards'.
    assert (prepared.test.encoded.numbers[:, 0] == 7).sum() == 60
    assert len(prepared.test) == 72
    told = [warning.seen for warning in prepared.warnings if warning.check == "labelled"]
    assert told[0] == "60 logged rows with their labels are among the data"
    assert "no column request_id" in told[1]


def test_a_run_that_goes_on_sees_the_rows_that_it_began_with(path: Path, tmp_path: Path) -> None:
    first = prepare(path, logged(60), tmp_path / "run")
    again = prepare(path, logged(80), tmp_path / "run")
    anew = prepare(path, logged(80), tmp_path / "other")

    assert first.fingerprint == again.fingerprint != anew.fingerprint


def test_rows_that_are_in_the_data_already_count_once(path: Path, tmp_path: Path) -> None:
    ids = [f"r{i}" if i < 20 else f"s{i}" for i in range(300)]
    pq.write_table(shop().append_column("request_id", pa.array(ids)), path / "shop.parquet")
    prepared = prepare(path, logged(60), tmp_path / "run")

    assert prepared.all_rows == 340
    assert any("20 of 60 logged rows are in the data already" in warning.seen for warning in prepared.warnings)


def test_a_class_that_the_data_do_not_have_is_left_out_and_told(path: Path, tmp_path: Path) -> None:
    strange = [row._replace(label="Yes") if i < 3 else row for i, row in enumerate(logged(60))]
    prepared = prepare(path, strange, tmp_path / "run")

    assert prepared.all_rows == 357
    assert prepared.classes == ("no", "yes")
    assert any("3 logged rows have a class that the data do not have" in each.seen for each in prepared.warnings)
    assert any("'Yes' (did you mean 'yes'?)" in each.seen for each in prepared.warnings)


def test_without_any_label_training_goes_by_the_data_alone(path: Path, tmp_path: Path) -> None:
    prepared = prepare(path, [], tmp_path / "run")

    assert prepared.all_rows == 300
    assert prepared.warnings[0].seen == "no logged row has a label yet"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": None}, "size: no logged row has a value of 'size'; is it kept out by HORNPIPE_PREDICTIONS_REDACT?"),
        ({"color": "5d41402abc4b2a76b9719d911017c592"}, "color: the log has hashes of it (HORNPIPE_PREDICTIONS_HASH)"),
    ],
)
def test_what_the_log_does_not_have_is_said(path: Path, tmp_path: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(path, logged(60, **given), tmp_path / "run")
    assert message in str(caught.value)


def test_a_window_and_a_filter_hold_for_logged_rows_too(path: Path, tmp_path: Path) -> None:
    rows = [*logged(30, color="blue"), *logged(60)[30:]]
    prepared = prepare(path, rows, tmp_path / "run", where={"color": "red"}, window={"last": "60d"})

    assert (prepared.test.encoded.numbers[:, 0] == 7).sum() == 30
    with pytest.raises(DataError, match=r"data.where.notes: logged rows have no column 'notes'"):
        prepare(path, rows, tmp_path / "other", where={"notes": "a"})


def test_who_cannot_look_into_the_log_says_so(path: Path) -> None:
    with pytest.raises(DataError, match=r"train again, or set data.labelled=false"):
        data.prepare(checked(path))
