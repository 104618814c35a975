"""Which rows are read, against the same rows picked by pandas: in memory and streamed, Parquet and CSV."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from training import config, data
from training.errors import DataError
from training.rows import Prepared

DAYS, A_DAY = 120, 10
SPANS = {"by": "time", "column": "at", "validation": "7d", "test": "14d"}


def rows(days: int = DAYS) -> pa.Table:
    rng = np.random.default_rng(0)
    count = days * A_DAY
    at = [datetime(2024, 1, 1) + timedelta(hours=24 / A_DAY * i) for i in range(count)]
    return pa.table(
        {
            "at": pa.array(at, pa.timestamp("us")),
            "number": np.arange(count, dtype=float),
            "size": rng.normal(size=count),
            "shop": rng.choice(["north", "south", "west"], count),
            "sold": rng.choice(["yes", "no"], count),
        }
    )


@pytest.fixture
def months(tmp_path: Path) -> Path:
    """A Parquet file a month, of small row groups."""
    folder = tmp_path / "months"
    folder.mkdir()
    table = rows()
    month = table["at"].to_pandas().dt.strftime("%Y-%m").to_numpy()
    for name in np.unique(month):
        pq.write_table(table.filter(pa.array(month == name)), folder / f"shop-{name}.parquet", row_group_size=70)
    return folder


def checked(path: object, split: dict[str, object] | None = None, **asked: object) -> config.TrainingConfig:
    return config.parse(
        {
            "name": "shop",
            "data": {"path": path, "target": "sold", "positive": "yes", **asked},
            "split": split or SPANS,
            "features": {"number": "number", "size": "number", "shop": "category"},
        }
    )


def numbers(prepared: Prepared) -> list[float]:
    parts = [prepared.sample, prepared.validation, prepared.test]
    return sorted(np.concatenate([part.encoded.numbers[:, 0] for part in parts]))


def problems(*given: object, **asked: object) -> str:
    with pytest.raises(DataError) as caught:
        data.prepare(checked(*given, **asked))
    return str(caught.value)


def since(frame: pd.DataFrame, span: timedelta) -> pd.DataFrame:
    """The window is measured from the newest of the rows that the filter lets through."""
    return frame[frame["at"] > frame["at"].max() - span]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, lambda frame: frame),
        ({"window": {"last": "45d"}}, lambda frame: frame[frame["at"] > frame["at"].max() - pd.Timedelta(days=45)]),
        (
            {"window": {"last": "1000h"}},
            lambda frame: frame[frame["at"] > frame["at"].max() - pd.Timedelta(hours=1000)],
        ),
        ({"window": {"since": date(2024, 2, 17)}}, lambda frame: frame[frame["at"] >= "2024-02-17"]),
        ({"where": {"shop": "west"}}, lambda frame: frame[frame["shop"] == "west"]),
        (
            {"where": {"shop": ["west", "north"]}, "window": {"last": "60d"}},
            lambda frame: since(frame[frame["shop"] != "south"], timedelta(days=60)),
        ),
    ],
    ids=["all", "last", "hours", "since", "where", "both"],
)
def test_the_rows_that_are_meant_are_read(
    months: Path, stream: bool, asked: dict, expected: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    prepared = data.prepare(checked(f"{months}/*.parquet", stream=stream, **asked))

    assert numbers(prepared) == sorted(expected(rows().to_pandas())["number"])
    assert prepared.all_rows == len(numbers(prepared))
    assert prepared.newest == datetime.fromisoformat("2024-04-29T21:36:00+00:00") or "where" in asked


@pytest.mark.parametrize("asked", [{"window": {"last": "45d"}}, {"where": {"shop": ["west", "north"]}}])
def test_streamed_and_in_memory_are_the_same_run(months: Path, asked: dict[str, object]) -> None:
    whole, streamed = (data.prepare(checked(str(months), stream=stream, **asked)) for stream in (False, True))

    assert whole.fingerprint == streamed.fingerprint
    assert whole.encoder.features == streamed.encoder.features
    assert whole.train.rows == streamed.train.rows
    np.testing.assert_array_equal(whole.test.encoded.numbers, streamed.test.encoded.numbers)


def test_a_window_moves_with_the_newest_row_and_the_fingerprint_with_it(months: Path) -> None:
    before = data.prepare(checked(str(months), window={"last": "45d"}))
    more = rows(DAYS + 10).slice(DAYS * A_DAY)
    pq.write_table(more, months / "shop-2024-05.parquet")
    after = data.prepare(checked(str(months), window={"last": "45d"}))

    assert before.fingerprint != after.fingerprint
    assert (min(numbers(after)), max(numbers(after))) == (min(numbers(before)) + 100, max(numbers(before)) + 100)


def test_row_groups_before_the_window_are_not_read(months: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes may be gone: nobody looks."""
    first = min(months.iterdir())
    with pq.ParquetFile(first) as file:
        chunk = file.metadata.row_group(0).column(1)
        start, size = chunk.data_page_offset, chunk.total_compressed_size
    content = bytearray(first.read_bytes())
    content[start : start + size] = b"\xff" * size
    first.write_bytes(content)

    assert len(numbers(data.prepare(checked(str(months), window={"last": "45d"})))) == 450
    assert "cannot be read" in problems(str(months))


def test_paths_can_be_many(months: Path) -> None:
    one, *others = sorted(str(path) for path in months.iterdir())

    assert numbers(data.prepare(checked([one, *others]))) == numbers(data.prepare(checked(str(months))))
    assert max(numbers(data.prepare(checked([one, others[0]])))) == 599
    assert "nothing is called like" in problems([one, f"{months}/shop-2025-*.parquet"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_shard_that_lacks_a_column_or_has_another_type_is_named(months: Path, stream: bool) -> None:
    table = rows(2)
    pq.write_table(table.drop_columns(["size"]), months / "zz.parquet")

    assert f"features.size: no column 'size' in {months}/zz.parquet" in problems(str(months), stream=stream)

    pq.write_table(table.set_column(2, "size", pa.array(["big"] * len(table))), months / "zz.parquet")

    assert f"a number is expected, the column is string in {months}/zz.parquet" in problems(str(months), stream=stream)


@pytest.mark.parametrize(("form", "stream"), [("parquet", False), ("parquet", True), ("csv", False)])
def test_folders_say_columns_and_choose_among_shards(tmp_path: Path, form: str, stream: bool) -> None:
    table = rows()
    for name in ("north", "south", "west"):
        part = table.filter(pa.array(np.asarray(table["shop"]) == name)).drop_columns(["shop"])
        (tmp_path / f"shop={name}").mkdir()
        write = pq.write_table if form == "parquet" else pyarrow.csv.write_csv
        write(part, tmp_path / f"shop={name}" / f"part-0.{form}")
    (tmp_path / "shop=south" / f"part-0.{form}").write_text("nobody may read this")
    prepared = data.prepare(checked(str(tmp_path), stream=stream, where={"shop": ["north", "west"]}))

    frame = table.to_pandas()
    assert numbers(prepared) == sorted(frame[frame["shop"] != "south"]["number"])
    assert set(prepared.encoder.category_features[0].vocabulary) == {"north", "west"}
    assert "data.where" in problems(str(tmp_path), where={"shop": "east"})


def test_csv_has_windows_and_filters_too(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(rows(), tmp_path / "shop.csv")
    prepared = data.prepare(checked(str(tmp_path), window={"last": "45d"}, where={"shop": "west"}))

    frame = rows().to_pandas()
    kept = frame[frame["shop"] == "west"]
    assert numbers(prepared) == sorted(kept[kept["at"] > kept["at"].max() - pd.Timedelta(days=45)]["number"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"window": {"since": date(2025, 1, 1)}}, "no row is of 2025-01-01 or later: they are of 2024-01-01"),
        ({"window": {"last": "45d", "column": "shop"}}, "data.window: a date or time is expected"),
        ({"window": {"last": "45d", "column": "att"}}, "data.window: no column 'att'; did you mean 'at'?"),
        ({"window": {"last": "10d"}}, "split: no rows to train: they are of 2024-04-20"),
        ({"where": {"shop": "east"}}, "what is asked for: {'shop': 'east'}"),
        ({"where": {"size": "large"}}, "size: 'large' is asked for"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_chosen_is_said(months: Path, stream: bool, asked: dict[str, object], message: str) -> None:
    assert message in problems(str(months), stream=stream, **asked)


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_of_day_counts_where_spans_cut_through_days(tmp_path: Path, stream: bool) -> None:
    split = {"by": "time", "column": "at", "validation": "36h", "test": "36h"}
    later = rows().set_column(0, "at", pa.array([*rows()["at"].to_pylist()[:-1], datetime(2024, 4, 29, 23)]))
    prints = []
    for table in (rows(), later):
        pq.write_table(table, tmp_path / "shop.parquet")
        prints.append(data.prepare(checked(str(tmp_path), split, stream=stream)).fingerprint)

    assert prints[0] != prints[1]
