"""New months of real flights, which are never refused, and the same months poisoned, which are."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from contract.histogram import fit_inputs
from contract.manifest import DataFacts, DriftBaseline, Manifest
from training import config, data
from training.errors import DataError, DataRefused, NothingNew

FEW = 8  # of so many flights one
SPANS = 'split={by="time", column="date", validation="14d", test="28d"}'


@pytest.fixture(scope="module")
def months(flights: Path) -> list[pa.Table]:
    tables = [pq.read_table(path) for path in sorted(flights.glob("*.parquet"))]
    return [table.take(pa.array(np.arange(0, len(table), FEW))) for table in tables]


def checked(folder: Path, *overrides: str) -> config.TrainingConfig:
    sets = [f"data.path={folder}", SPANS, 'data.window={last="150d"}', *overrides]
    return config.load(Path("examples/flights/train.toml"), sets)


def write(folder: Path, months: list[pa.Table]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, table in enumerate(months):
        pq.write_table(table, folder / f"2013-{i + 1:02}.parquet")
    return folder


def version(folder: Path, *overrides: str) -> Manifest:
    """What a version's manifest says of the data that it has seen; no network is needed for that."""
    asked = checked(folder, *overrides)
    seen = data.prepare(asked)
    baseline = DriftBaseline.model_construct(inputs=fit_inputs(seen.encoder, seen.sample.encoded))
    facts = DataFacts(
        fingerprint=seen.fingerprint,
        source="",
        train_rows=seen.train.rows,
        validation_rows=len(seen.validation),
        test_rows=len(seen.test),
        rows=seen.all_rows,
        newest=seen.newest,
    )
    return Manifest.model_construct(
        name="flights",
        version=3,
        task="binary",
        config=asked.model_dump(mode="json", exclude_none=True),
        features=seen.encoder.features,
        drift=baseline,
        data=facts,
    )


def refusal(folder: Path, production: Manifest, *overrides: str, error: type[DataRefused] = DataRefused) -> str:
    with pytest.raises(DataRefused) as caught:
        data.prepare(checked(folder, *overrides), production=production)
    assert type(caught.value) is error
    return str(caught.value)


@pytest.mark.parametrize("count", [3, 6, 9, 11])
def test_no_real_month_is_refused(months: list[pa.Table], tmp_path: Path, count: int) -> None:
    production = version(write(tmp_path, months[:count]))
    prepared = data.prepare(checked(write(tmp_path, months[: count + 1])), production=production)

    assert production.data.newest is not None
    assert prepared.newest is not None
    assert prepared.newest > production.data.newest


def test_no_real_week_is_refused(months: list[pa.Table], tmp_path: Path) -> None:
    whole, folder = pa.concat_tables(months), tmp_path / "weeks"
    for week in range(15, 51, 7):
        end = datetime(2013, 1, 1) + timedelta(weeks=week)
        production = version(write(folder, [whole.filter(pc.less(whole["date"], end))]))
        later = whole.filter(pc.less(whole["date"], end + timedelta(weeks=1)))
        prepared = data.prepare(checked(write(folder, [later])), production=production)

        assert production.data.newest is not None
        assert prepared.newest is not None
        assert prepared.newest > production.data.newest


def put(name: str, change: Callable[[pa.ChunkedArray], object]) -> Callable[[pa.Table], pa.Table]:
    return lambda month: month.set_column(month.column_names.index(name), name, change(month[name]))


def same(value: object) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda column: pa.array([value] * len(column), column.type)


def flipped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, "late"), "on_time", "late")


POISONS = {
    "one class": (put("outcome", same("on_time")), "outcome: 0.0% are late"),
    "the other": (put("outcome", same("late")), "outcome: 100.0% are late"),
    "flipped": (put("outcome", flipped), "outcome:"),
    "zeroed": (put("distance", same(0)), "distance: all of"),
    "zeroed rain": (put("precip", same(0.0)), "precip: all of"),
    "metres": (put("distance", lambda column: pc.multiply(column, 1609)), "distance: half of the values are 1."),
    "x1000": (put("temp", lambda column: pc.multiply(column, 1000.0)), "is it another unit?"),
    "rain x1000": (put("precip", lambda column: pc.multiply(column, 1000.0)), "precip: half of the values"),
    "missing": (put("temp", same(None)), "temp: 100% of the values are missing"),
    "other words": (put("carrier", pc.utf8_lower), "carrier: 100% of the rows have a value that no earlier row has"),
    "one carrier": (put("carrier", same("UA")), "carrier: all of"),
    "half twice": (lambda month: pa.concat_tables([month, month[::2]]), "33% of them are copies of other rows"),
}


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_month_is_refused(months: list[pa.Table], tmp_path: Path, poison: str) -> None:
    change, told = POISONS[poison]
    production = version(write(tmp_path, months[:8]))
    folder = write(tmp_path, [*months[:8], change(months[8])])
    text = refusal(folder, production)

    assert "rows after 2013-08-31 cannot be true, by what flights/3 learnt from" in text
    assert told in text
    assert "data.increment=accept" in text


def test_it_is_the_same_where_rows_are_streamed(months: list[pa.Table], tmp_path: Path) -> None:
    production = version(write(tmp_path, months[:8]))
    data.prepare(checked(write(tmp_path, months[:9]), "data.stream=true"), production=production)
    for poison in ("one class", "zeroed", "half twice"):
        change, told = POISONS[poison]
        folder = write(tmp_path, [*months[:8], change(months[8])])
        assert told in refusal(folder, production, "data.stream=true")


def test_a_month_that_was_delivered_again_is_refused(months: list[pa.Table], tmp_path: Path) -> None:
    production = version(write(tmp_path, months[:8]))
    again = write(tmp_path, [*months[:8], months[6]])

    assert "copies of others" in refusal(again, production)


def test_history_in_another_unit_is_refused_though_it_is_of_one_piece(months: list[pa.Table], tmp_path: Path) -> None:
    """Everything was written anew: only production remembers how it was."""
    production = version(write(tmp_path, months[:8]))
    metres = [put("distance", lambda column: pc.multiply(column, 1609))(month) for month in months[:9]]

    assert "is it another unit?" in refusal(write(tmp_path, metres), production)


def test_nothing_new_is_refused_unless_something_else_is_asked_for(months: list[pa.Table], tmp_path: Path) -> None:
    production = version(write(tmp_path, months[:8]))
    pq.write_table(months[8].slice(0, 0), tmp_path / "2013-09.parquet")

    assert "nothing new to learn: no row is newer than 2013-08-31, the newest that flights/3" in refusal(
        tmp_path, production, error=NothingNew
    )
    assert "nothing new" in refusal(
        tmp_path, production, "gate.margin=0.1", 'promotion={policy="direct"}', error=NothingNew
    )
    data.prepare(checked(tmp_path, "training.seed=7"), production=production)
    data.prepare(checked(tmp_path, "data.increment=accept"), production=production)


def test_rows_that_come_late_and_labels_that_were_mended_are_new(months: list[pa.Table], tmp_path: Path) -> None:
    part = months[7].filter(pc.not_equal(months[7]["carrier"], "UA"))
    late = version(write(tmp_path, [*months[:7], part]))
    assert data.prepare(checked(write(tmp_path, months[:8])), production=late).newest == late.data.newest

    mended = version(write(tmp_path, months[:8]))
    labels = months[7]["outcome"].to_pylist()
    labels[0] = "late" if labels[0] == "on_time" else "on_time"
    month = put("outcome", lambda column: pa.array(labels, column.type))(months[7])
    assert data.prepare(checked(write(tmp_path, [*months[:7], month])), production=mended).newest == mended.data.newest


def test_an_empty_or_damaged_file_is_named(months: list[pa.Table], tmp_path: Path) -> None:
    production = version(write(tmp_path, months[:8]))
    (tmp_path / "2013-09.parquet").write_bytes(b"")

    with pytest.raises(DataError, match=r"2013-09\.parquet"):
        data.prepare(checked(tmp_path), production=production)


def test_a_version_that_does_not_know_how_new_its_rows_were_says_nothing(
    months: list[pa.Table], tmp_path: Path
) -> None:
    production = version(write(tmp_path, months[:8]))
    old = production.model_copy(update={"data": production.data.model_copy(update={"newest": None})})

    data.prepare(checked(tmp_path), production=old)
    assert production.data.newest == datetime(2013, 8, 31, tzinfo=UTC)
