"""Streamed shards against the same rows in memory, and what a killed run leaves behind."""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.features import Encoded
from training import config, data
from training.errors import DataError
from training.rows import Prepared, Rows
from training.sources import shards
from training.sources.row_files import RowFiles, writing

ROWS = 3000


def table(rows: int = ROWS, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows)
    size[rng.random(rows) < 0.1] = np.nan
    return pa.table(
        {
            "day": [datetime(2024, 1, 1) + timedelta(minutes=i) for i in range(rows)],
            "size": size,
            "count": rng.integers(0, 9, rows),
            "color": rng.choice(["red", "blue", "gold", ""], rows, p=[0.6, 0.3, 0.09, 0.01]),
            "shop": rng.integers(0, 30, rows),
            "note": [f"näh {i % 7} {'x' * (i % 5)}" for i in range(rows)],
            "sold": rng.choice(["yes", "no"], rows),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven shards of several row groups each."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for i in range(7):
        part = table().slice(i * 450, 450)
        pq.write_table(part, folder / f"part-{i}.parquet", row_group_size=130)
    return folder


SPLITS = {
    "time": {
        "by": "time",
        "column": "day",
        "validation_from": datetime(2024, 1, 2).date(),
        "test_from": datetime(2024, 1, 3).date(),
    },
    "order": {"by": "order", "validation": 0.1, "test": 0.2},
    "random": {"by": "random", "validation": 0.1, "test": 0.2},
    "group": {"by": "group", "column": "shop", "validation": 0.1, "test": 0.2},
}


def prepare(folder: Path, workdir: Path | None, stream: bool = True, **sections: object) -> Prepared:
    raw = {
        "name": "shop",
        "task": "binary",
        "data": {"path": str(folder), "target": "sold", "positive": "yes", "stream": stream},
        "split": SPLITS["order"],
        "features": {
            "size": {"kind": "number", "optional": True},
            "count": "number",
            "color": {"kind": "category", "optional": True},
            "shop": "category",
            "words": {"kind": "text", "column": "note"},
        },
        "model": {"builder": "any.where:build"},
    }
    return data.prepare(config.parse(raw | sections), workdir)


def everything(blocks: RowFiles, epoch: int = 0) -> Rows:
    loaded = [blocks.load(block) for block in blocks.order(0, epoch)]
    return Rows(Encoded.join([rows.encoded for rows in loaded]), np.concatenate([rows.labels for rows in loaded]))


def assert_same(first: Rows, second: Rows) -> None:
    for one, other in zip(first.encoded, second.encoded, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize("by", ["time", "order"])
def test_streamed_rows_are_those_in_memory(folder: Path, tmp_path: Path, by: str) -> None:
    streamed = prepare(folder, tmp_path, split=SPLITS[by])
    whole = prepare(folder, None, stream=False, split=SPLITS[by])

    assert isinstance(streamed.train, RowFiles)
    assert streamed.encoder.features == whole.encoder.features
    assert streamed.fingerprint == whole.fingerprint
    assert streamed.train.rows == whole.train.rows
    assert_same(everything(streamed.train), whole.sample)
    assert_same(streamed.sample, whole.sample)
    assert_same(streamed.validation, whole.validation)
    assert_same(streamed.test, whole.test)
    assert streamed.raw_test([0, 7, 3]) == whole.raw_test([0, 7, 3])


@pytest.mark.parametrize("by", ["random", "group"])
def test_a_streamed_split_loses_no_row(folder: Path, tmp_path: Path, by: str) -> None:
    prepared = prepare(folder, tmp_path, split=SPLITS[by])
    parts = [everything(prepared.train), prepared.validation, prepared.test]
    size = np.concatenate([part.encoded.numbers[:, 0] for part in parts])

    assert np.isnan(size).sum() == np.isnan(table()["size"].to_numpy()).sum()
    np.testing.assert_array_equal(np.unique(size), np.unique(table()["size"].to_numpy().astype(np.float32)))
    assert len(size) == ROWS


def test_what_a_client_sends_is_what_was_encoded(folder: Path, tmp_path: Path) -> None:
    prepared = prepare(folder, tmp_path)
    sent = prepared.encoder.encode(prepared.raw_test(range(len(prepared.test))))

    assert_same(Rows(sent, prepared.test.labels), prepared.test)


def test_the_fingerprint_does_not_depend_on_how_files_are_cut_or_called(folder: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.parquet"
    pq.write_table(table(), one)

    assert prepare(one, tmp_path / "a").fingerprint == prepare(folder, tmp_path / "b").fingerprint


def test_files_are_made_once_for_the_same_data_and_config(folder: Path, tmp_path: Path) -> None:
    before = prepare(folder, tmp_path)
    written = (tmp_path / "rows" / "numbers.f32").stat().st_mtime_ns
    again = prepare(folder, tmp_path)

    assert (tmp_path / "rows" / "numbers.f32").stat().st_mtime_ns == written
    assert again.fingerprint == before.fingerprint
    assert_same(again.test, before.test)


@pytest.mark.parametrize("change", ["data", "config"])
def test_files_are_made_anew_for_others(folder: Path, tmp_path: Path, change: str) -> None:
    before = prepare(folder, tmp_path)
    split = SPLITS["order"]
    if change == "data":
        pq.write_table(table(seed=1).slice(0, 450), folder / "part-0.parquet")
    else:
        split = SPLITS["time"]
    after = prepare(folder, tmp_path, split=split)

    assert (after.fingerprint, after.train.rows) != (before.fingerprint, before.train.rows)
    assert_same(everything(after.train), prepare(folder, None, stream=False, split=split).sample)


def test_what_a_killed_run_left_is_not_taken_for_data(folder: Path, tmp_path: Path) -> None:
    partial = tmp_path / "rows.partial"
    partial.mkdir()
    (partial / "numbers.f32").write_bytes(b"half")
    prepared = prepare(folder, tmp_path)

    assert_same(everything(prepared.train), prepare(folder, None, stream=False).sample)
    assert not partial.exists()


def test_without_a_work_directory_the_files_go_with_the_data(folder: Path) -> None:
    prepared = prepare(folder, None)
    place = prepared.train.folder
    assert place.exists()
    del prepared

    assert not place.exists()


def test_every_epoch_deals_the_chunks_anew_and_the_same_again(tmp_path: Path) -> None:
    blocks = written(tmp_path, 1000)
    first, again, second = (everything(blocks, epoch).labels for epoch in (0, 0, 1))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))


def test_blocks_are_of_the_size_asked_and_mix_distant_rows(tmp_path: Path) -> None:
    blocks = written(tmp_path, 1000)
    order = blocks.order(0, 0)

    assert [blocks.rows_in(block) for block in order] == [len(blocks.load(block)) for block in order]
    assert sum(map(blocks.rows_in, order)) == 1000
    assert {blocks.rows_in(block) for block in order[:-1]} <= {100, 91, 90}  # the last chunk has one row
    assert np.ptp(blocks.load(order[0]).labels) > 300


def written(folder: Path, rows: int) -> RowFiles:
    """Rows whose every value says which row it is; chunks of 10 rows and blocks of 100."""
    places = np.arange(rows, dtype=np.float32)
    encoded = Encoded(places[:, None] * [1, 2], places[:, None].astype(np.int32))
    encoded = encoded._replace(numbers=encoded.numbers.astype(np.float32))
    with writing(folder) as writer:
        for start in range(0, rows, 77):
            writer.append(Rows(encoded, places).take(slice(start, start + 77)))
    return RowFiles(folder, rows, 2, 1, 0, "float32", chunk_rows=10, block_bytes=1600)


def test_rows_stay_together_in_files(tmp_path: Path) -> None:
    rows = everything(written(tmp_path, 1001))

    np.testing.assert_array_equal(rows.encoded.numbers, rows.labels[:, None] * [1, 2])
    np.testing.assert_array_equal(rows.encoded.categories[:, 0], rows.labels)


def test_a_file_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    blocks = written(tmp_path, 100)
    os.truncate(tmp_path / "labels", 396)

    with pytest.raises(EOFError, match="labels ends too early"):
        everything(blocks)


def test_a_sample_is_drawn_evenly_where_a_part_is_too_large(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_KEPT", 200)
    prepared = prepare(folder, tmp_path)
    checks = [warning for warning in prepared.warnings if warning.check == "sample"]
    whole = prepare(folder, None, stream=False).test
    places = np.flatnonzero(np.isin(whole.encoded.numbers[:, 0], prepared.test.encoded.numbers[:, 0]))

    assert (len(prepared.sample), len(prepared.test)) == (200, 200)
    assert [warning.seen for warning in checks] == [
        "300 rows validation; 200 of them, drawn evenly, are used",
        "600 rows test; 200 of them, drawn evenly, are used",
    ]
    assert prepared.train.rows == 2100
    assert 250 < np.median(places) < 350


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": ["big"] * 450}, "size: a number is expected, the column is string in "),
        ({"sold": ["yes"] * 449 + [None]}, "sold: 1 rows have no target"),
        ({"count": [*range(449), None]}, "count: 1 of 3,000 values are missing"),
    ],
)
def test_shards_that_are_not_what_the_config_says(
    folder: Path, tmp_path: Path, changes: dict[str, list[object]], message: str
) -> None:
    part = table().slice(0, 450)
    for name, values in changes.items():
        part = part.set_column(part.schema.get_field_index(name), name, [values])
    pq.write_table(part, folder / "part-0.parquet")

    with pytest.raises(DataError) as caught:
        prepare(folder, tmp_path)
    assert message in "\n".join(caught.value.problems)


def test_a_shard_without_a_column_is_named(folder: Path, tmp_path: Path) -> None:
    pq.write_table(table().slice(0, 450).drop_columns(["count"]), folder / "part-6.parquet")

    with pytest.raises(DataError, match=r"features.count: no column 'count' in .*part-6.parquet"):
        prepare(folder, tmp_path)


def test_small_data_is_not_streamed_by_itself(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not isinstance(prepare(folder, tmp_path, stream="auto").train, RowFiles)
    monkeypatch.setattr(shards, "STREAM_FROM_BYTES", ROWS * 5 * 4 - 1)
    assert isinstance(prepare(folder, tmp_path, stream="auto").train, RowFiles)


MEMORY = """
import sys
from pathlib import Path
from training import config, data
from training.sources import shards

def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM")) / 1024

shards.MOST_KEPT = 50_000
before = peak()
prepared = data.prepare(config.parse({
    "name": "big", "task": "regression",
    "data": {"path": sys.argv[1], "target": "y", "stream": sys.argv[3] == "stream"},
    "split": {"by": "random", "validation": 0.01, "test": 0.01},
    "features": {f"n{i}": "number" for i in range(18)} | {"color": "category"},
}), Path(sys.argv[2]))
rows = sum(len(prepared.train.load(block)) for block in prepared.train.order(0, 0))
assert rows == prepared.train.rows
print(rows, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Two million rows of 19 values take some 250 MB; in memory they take 940."""
    rng, folder = np.random.default_rng(0), tmp_path / "data"
    folder.mkdir()
    for i in range(8):
        numbers = {f"n{k}": rng.normal(size=250_000) for k in range(18)}
        colors = rng.choice(["red", "blue", "gold"], 250_000)
        part = pa.table(numbers | {"color": colors, "y": rng.normal(size=250_000)})
        pq.write_table(part, folder / f"part-{i}.parquet", compression="none", row_group_size=250_000)
    taken = {}
    for how in ("stream", "memory"):
        child = [sys.executable, "-c", MEMORY, str(folder), str(tmp_path / how), how]
        rows, growth = subprocess.run(child, capture_output=True, check=True, text=True).stdout.split()
        assert abs(int(rows) - 1_960_000) < 1_000
        taken[how] = float(growth)

    assert taken["memory"] > 600
    assert taken["stream"] < 400
