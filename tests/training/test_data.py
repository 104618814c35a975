"""Reading, checking, splitting and fitting, on small tables that have the mistakes in them."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from contract.features import UNSEEN
from contract.manifest import CategoryFeature, NumberFeature
from training import config, data
from training.errors import DataError

ROWS = 100


def table(**columns: list[object]) -> pa.Table:
    start = datetime(2024, 1, 1)
    made: dict[str, list[object]] = {
        "day": [start + timedelta(days=i) for i in range(ROWS)],
        "size": [float(i) for i in range(ROWS)],
        "color": ["red"] * 60 + ["blue"] * 35 + ["gold"] * 5,
        "sold": ["yes", "no"] * (ROWS // 2),
    }
    return pa.table(made | columns)


def checked(path: Path, **sections: object) -> config.TrainingConfig:
    raw = {
        "name": "shop",
        "task": "binary",
        "data": {"path": str(path), "target": "sold", "positive": "yes"},
        "split": {
            "by": "time",
            "column": "day",
            "validation_from": date(2024, 3, 1),
            "test_from": date(2024, 3, 11),
        },
        "features": {"size": "number", "color": "category"},
    }
    return config.parse(raw | sections)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.parquet"


def prepare(path: Path, rows: pa.Table, **sections: object) -> data.Prepared:
    pq.write_table(rows, path)
    return data.prepare(checked(path, **sections))


def problems(path: Path, rows: pa.Table, **sections: object) -> str:
    with pytest.raises(DataError) as caught:
        prepare(path, rows, **sections)
    return "\n".join(caught.value.problems)


def test_the_time_split_cuts_at_the_days_given(path: Path) -> None:
    prepared = prepare(path, table())

    assert (prepared.train.rows, len(prepared.validation), len(prepared.test)) == (60, 10, 30)
    np.testing.assert_array_equal(prepared.validation.encoded.numbers[:, 0], np.arange(60, 70))


def test_the_random_split_is_the_same_again_and_loses_no_row(path: Path) -> None:
    split = {"by": "random", "validation": 0.1, "test": 0.25}
    first, second = (prepare(path, table(), split=split) for _ in range(2))
    parts = [part.encoded.numbers[:, 0] for part in (first.sample, first.validation, first.test)]

    assert sorted(np.concatenate(parts)) == list(range(ROWS))
    assert [len(part) for part in parts] == [65, 10, 25]
    np.testing.assert_array_equal(first.test.encoded.numbers, second.test.encoded.numbers)


def test_features_are_fitted_to_training_rows_alone(path: Path) -> None:
    size, color = prepare(path, table()).encoder.features

    assert isinstance(size, NumberFeature)
    assert (size.minimum, size.maximum, size.example) == (0, 59, 29)
    assert isinstance(color, CategoryFeature)
    assert color.vocabulary == ("red",)  # blue comes later


def test_rare_categories_train_the_unseen_index(path: Path) -> None:
    colors = ["red"] * 40 + ["blue"] * 15 + ["gold"] * 5 + ["red"] * 40
    prepared = prepare(path, table(color=colors))

    assert prepared.encoder.category_features[0].vocabulary == ("red", "blue")
    assert (prepared.sample.encoded.categories[:, 0] == UNSEEN).sum() == 5


def test_the_fingerprint_changes_with_one_value(path: Path) -> None:
    same = [prepare(path, table()).fingerprint for _ in range(2)]
    size = [float(i) for i in range(ROWS)]
    size[50] = 50.5

    assert same[0] == same[1]
    assert prepare(path, table(size=size)).fingerprint != same[0]


def test_csv_reads_as_parquet_does(tmp_path: Path, path: Path) -> None:
    pyarrow.csv.write_csv(table(), tmp_path / "shop.csv")
    by_csv = data.prepare(checked(tmp_path / "shop.csv"))

    assert by_csv.fingerprint == prepare(path, table()).fingerprint


@pytest.mark.parametrize(
    ("columns", "sections", "message"),
    [
        ({}, {"features": {"sise": "number"}}, "features.sise: no column 'sise'; did you mean 'size'?"),
        ({"size": [None, *range(99)]}, {}, 'size: 1 of 100 values are missing; if requests may lack it: size = { kind'),
        ({"color": [""] + ["red"] * 99}, {}, "color: 1 of 100 values are missing"),
        ({"size": [float("inf"), *map(float, range(99))]}, {}, "size: 1 values are infinite"),
        ({"size": ["big"] * ROWS}, {}, "size: a number is expected, the column is string"),
        ({"color": [date(2024, 1, 1)] * ROWS}, {}, "color: a category is text or whole numbers, the column is date32"),
        ({"color": [1.5] * ROWS}, {}, "color: whole numbers or text are expected in shop.parquet"),
        ({"sold": ["yes", "no", "maybe", "no"] * 25}, {}, "a binary target has two values, got 3: maybe, no, yes"),
        ({"sold": ["Yes", "no"] * 50}, {}, "sold: data.positive is 'yes'; did you mean 'Yes'?"),
        ({"sold": [None, "no"] * 50}, {}, "sold: 50 rows have no target"),
        ({"sold": [0, 1] * 50}, {}, "sold: data.positive is 'yes'; valid: 0, 1"),
        ({"sold": [date(2024, 1, 1)] * ROWS}, {}, "sold: a class is text, a whole number or true and false"),
        ({"day": list(range(ROWS))}, {}, "day: a date or time is expected, the column is int64"),
        ({"day": [datetime(2024, 5, 1)] * ROWS}, {}, "split: no rows to train"),
    ],
)  # fmt: skip
def test_data_that_is_not_what_the_config_says(
    path: Path, columns: dict[str, list[object]], sections: dict[str, object], message: str
) -> None:
    assert message in problems(path, table(**columns), **sections)


def test_every_problem_comes_at_once(path: Path) -> None:
    text = problems(path, table(size=["big"] * ROWS, color=[None] * ROWS, sold=[None, "no"] * 50))

    assert {line.split(":")[0] for line in text.splitlines()} == {"size", "color", "sold"}


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        data.prepare(checked(tmp_path / "nowhere"))


def test_what_the_checks_find_comes_with_the_data(path: Path) -> None:
    rows = table(size=[float(i // 2) for i in range(ROWS)], color=["red"] * ROWS)
    found = {(warning.check, warning.column) for warning in prepare(path, rows).warnings}

    assert ("constant", "color") in found


def test_a_feature_that_is_the_target_stops_before_training(path: Path) -> None:
    rows = pa.concat_tables([table(color=["gold", "red"] * (ROWS // 2))] * 3)

    assert "color: is the target sold under another name" in problems(path, rows)
