"""Tables in memory: kinds of columns and targets, names that differ, files that differ, and the line of a mistake."""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.features import Encoder
from contract.manifest import CategoryFeature, NumberFeature, TextFeature
from training import config, data
from training.errors import DataError
from training.rows import Prepared
from training.sources.encoding import encode

ROWS = 40


def checked(path: Path, target: str = "sold", **sections: object) -> config.TrainingConfig:
    raw = {
        "name": "shop",
        "task": "multiclass",
        "data": {"path": str(path), "target": target, "category_min_count": 1},
        "split": {"by": "order", "validation": 0.1, "test": 0.2},
        "features": {"size": "number", "color": "category"},
        "model": {"builder": "any.where:build"},
    }
    return config.parse(raw | sections)


def columns(**others: object) -> dict[str, object]:
    return {
        "size": list(range(ROWS)),
        "color": ["red", "blue"] * 20,
        "sold": [f"c{i % 12}" for i in range(ROWS)],
    } | others


def prepare(folder: Path, made: dict[str, object], **sections: object) -> Prepared:
    pq.write_table(pa.table(made), folder / "shop.parquet")
    return data.prepare(checked(folder / "shop.parquet", **sections))


def problems(settings: config.TrainingConfig) -> str:
    with pytest.raises(DataError) as caught:
        data.prepare(settings)
    return str(caught.value)


texts = st.one_of(st.none(), st.sampled_from(["", "red", "blue", "rot", "grün", "\0"]))
numbers = st.one_of(st.none(), st.floats(width=32))


@given(st.lists(st.tuples(numbers, texts, texts), min_size=1, max_size=50), st.booleans(), st.integers(1, 50))
def test_columns_are_encoded_as_rows_of_requests_are(
    rows: list[tuple[float | None, str | None, str | None]], required: bool, cut: int
) -> None:
    features = (
        NumberFeature(name="size", required=required, minimum=0, maximum=1, example=0),
        CategoryFeature(name="color", required=required, vocabulary=("red", "blue", "grün"), example="red"),
        TextFeature(name="note", required=required, example=""),
    )
    size, color, note = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"size": pa.array(size, pa.float32()), "color": pa.array(color, pa.string()), "note": note})
    batches = pa.concat_tables([table.slice(0, cut), table.slice(cut)])
    expected = Encoder(features).encode_columns(
        {
            "size": np.array([np.nan if value is None else value for value in size], np.float32),
            "color": np.array(color, object),
            "note": np.array([value or "" for value in note], object),
        }
    )

    for form in (table, batches, batches.set_column(1, "color", batches["color"].dictionary_encode())):
        encoded = encode(form, features)
        np.testing.assert_array_equal(encoded.numbers, expected.numbers)
        np.testing.assert_array_equal(encoded.categories, expected.categories)
        np.testing.assert_array_equal(encoded.texts, expected.texts)


WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(2**22, 2**26) | st.integers(2**52, 2**55)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.decimal128(38, 9)])
@given(st.lists(WHOLE | st.none(), min_size=1, max_size=30))
@example([2**60 + 2**36 + 1])  # half way between two float32, but for what float64 has no room for
def test_numbers_are_rounded_as_those_of_requests_are(kind: pa.DataType, values: list[int | None]) -> None:
    feature = NumberFeature(name="size", required=False, minimum=0, maximum=1, example=0)
    sevenths = [value and value / 7 for value in values]
    column = pa.array(values, kind) if kind == pa.int64() else pa.array(sevenths).cast(kind, safe=False)
    sent = [float(value) if isinstance(value, Decimal) else value for value in column.to_pylist()]

    requested = Encoder([feature]).encode([{"size": value} for value in sent])
    assert not isinstance(requested, list)
    learnt = encode(pa.table({"size": column}), (feature,))
    np.testing.assert_array_equal(learnt.numbers, requested.numbers)


def test_classes_are_numbered_in_their_order(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, columns())

    assert prepared.classes == tuple(sorted(f"c{i}" for i in range(12)))
    assert prepared.sample.labels.dtype == np.int32
    assert prepared.classes[prepared.sample.labels[10]] == "c10"


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([i % 12 for i in range(ROWS)], [str(i) for i in range(12)]),
        ([float(i % 3) for i in range(ROWS)], ["0", "1", "2"]),
        ([[-1.5, -2, 10][i % 3] for i in range(ROWS)], None),
        ([i % 2 == 0 for i in range(ROWS)], ["false", "true"]),
        (pa.array(["b", "a"] * 20).dictionary_encode(), ["a", "b"]),
        (pa.array([2, 11] * 20).dictionary_encode(), ["2", "11"]),
    ],
)
def test_classes_may_be_numbers_and_booleans(tmp_path: Path, values: object, classes: list[str] | None) -> None:
    if classes is None:
        pq.write_table(pa.table(columns(sold=values)), tmp_path / "shop.parquet")
        assert "sold: whole numbers or text are expected" in problems(checked(tmp_path / "shop.parquet"))
    else:
        assert prepare(tmp_path, columns(sold=values)).classes == tuple(classes)


@pytest.mark.parametrize(
    ("values", "positive", "negative"), [([0, 1] * 20, "1", "0"), ([True, False] * 20, "false", "true")]
)
def test_a_binary_target_is_compared_as_text(
    tmp_path: Path, values: list[object], positive: str, negative: str
) -> None:
    settings = {"path": str(tmp_path / "shop.parquet"), "target": "sold", "positive": positive, "category_min_count": 1}
    prepared = prepare(tmp_path, columns(sold=values), task="binary", data=settings)

    assert prepared.classes == (negative, positive)
    np.testing.assert_array_equal(prepared.test.labels, [0, 1] * 4)
    assert prepared.test.labels.dtype == np.float32


def test_regression(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, columns(sold=[Decimal(i) / 4 for i in range(ROWS)]), task="regression")

    np.testing.assert_array_equal(prepared.test.labels, np.arange(32, 40, dtype=np.float32) / 4)
    assert prepared.classes == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([None, np.nan, np.inf, -np.inf, *range(36)], "sold: 2 rows have no target\n  sold: 2 rows have an infinite"),
        (["1"] * ROWS, "sold: a number is expected for regression, the column is string"),
    ],
)
def test_regression_needs_numbers(tmp_path: Path, values: list[object], message: str) -> None:
    pq.write_table(pa.table(columns(sold=values)), tmp_path / "shop.parquet")

    assert message in problems(checked(tmp_path / "shop.parquet", task="regression"))


def test_one_class_is_none(tmp_path: Path) -> None:
    pq.write_table(pa.table(columns(sold=["a"] * ROWS)), tmp_path / "shop.parquet")

    assert "a multiclass target has at least two values, got 1: a" in problems(checked(tmp_path / "shop.parquet"))


def test_categories_may_be_numbers_and_booleans(tmp_path: Path) -> None:
    made = columns(code=[7, 8] * 20, ok=[True, None] * 20, gaps=[None, 3.0] * 20)
    optional = {"kind": "category", "optional": True}
    prepared = prepare(tmp_path, made, features={"code": "category", "ok": optional, "gaps": optional})

    assert [feature.vocabulary for feature in prepared.encoder.category_features] == [("7", "8"), ("true",), ("3",)]
    assert prepared.raw_test([0, 1]) == [
        {"code": "7", "ok": "true", "gaps": None},
        {"code": "8", "ok": None, "gaps": "3"},
    ]
    np.testing.assert_array_equal(prepared.test.encoded.categories[:2], [[2, 2, 1], [3, 1, 2]])


def test_a_feature_may_have_another_name_than_its_column(tmp_path: Path) -> None:
    features = {"width": {"kind": "number", "column": "size"}, "twice": {"kind": "number", "column": "size"}}
    prepared = prepare(tmp_path, columns(), features=features)

    assert prepared.raw_test([3]) == [{"width": 35, "twice": 35}]


def test_a_feature_must_not_have_the_name_of_the_target_and_be_another(tmp_path: Path) -> None:
    pq.write_table(pa.table(columns()), tmp_path / "shop.parquet")
    features = {"sold": {"kind": "number", "column": "size"}}

    expected = "features.sold: has the name of data.target, and is another column"
    assert expected in problems(checked(tmp_path / "shop.parquet", features=features))


def test_texts(tmp_path: Path) -> None:
    made = columns(note=["", None, "gr\u00fcn"] * 13 + ["x" * 120_000])
    prepared = prepare(tmp_path, made, features={"note": {"kind": "text", "optional": True}})
    (feature,) = prepared.encoder.features

    assert isinstance(feature, TextFeature)
    assert (feature.example, feature.most_characters) == ("gr\u00fcn", 120_000)
    assert prepared.sample.encoded.texts[:3, 0].tolist() == ["", "", "gr\u00fcn"]


def test_shards_are_read_in_the_order_of_their_names_and_types_are_joined(tmp_path: Path) -> None:
    first = pa.table(columns()).slice(0, 20)
    second = pa.table(columns(size=[float(i) for i in range(ROWS)], color=[5] * ROWS)).slice(20)
    pq.write_table(first, tmp_path / "a.parquet")
    pq.write_table(second, tmp_path / "b.parquet")
    (tmp_path / "_SUCCESS").touch()
    prepared = data.prepare(checked(tmp_path))

    np.testing.assert_array_equal(prepared.test.encoded.numbers[:, 0], np.arange(32, 40))
    assert prepared.encoder.category_features[0].vocabulary == ("blue", "red", "5")


def test_the_file_that_differs_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table(columns()), tmp_path / "a.parquet")
    pq.write_table(pa.table(columns(size=["1"] * ROWS)), tmp_path / "b.parquet")
    pq.write_table(pa.table(columns()).drop_columns(["color"]), tmp_path / "c.parquet")

    assert "features.color: no column 'color' in" in (text := problems(checked(tmp_path)))
    assert "c.parquet" in text
    (tmp_path / "c.parquet").unlink()
    assert "size: a number is expected, the column is string in" in (text := problems(checked(tmp_path)))
    assert "b.parquet" in text


@pytest.mark.parametrize("names", [["a.txt"], [], ["a.csv", "b.parquet"]])
def test_folders_without_one_kind_of_table(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()

    expected = "both .parquet and .csv files" if len(names) == 2 else "expected .parquet or .csv files"
    assert expected in problems(checked(tmp_path))


def csv(folder: Path, lines: list[str], header: str = "day,size,color,sold", name: str = "shop.csv") -> Path:
    (folder / name).write_text("\n".join([header, *lines]) + "\n")
    return folder / name


def lines(**changes: str) -> list[str]:
    """Row i has the line i + 2."""
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(ROWS)]
    made = [f"{days[i]},{i}.5,{'0123' if i % 2 else '123'},c{i % 3}" for i in range(ROWS)]
    for place, line in changes.items():
        made[int(place[1:])] = line
    return made


def test_csv_names_stay_as_they_are_spelled(tmp_path: Path) -> None:
    prepared = data.prepare(checked(csv(tmp_path, lines())))

    assert prepared.encoder.category_features[0].vocabulary == ("0123", "123")
    assert prepared.classes == ("c0", "c1", "c2")


def test_csv_gaps(tmp_path: Path) -> None:
    made = lines(r0="2024-01-01,,,c0", r1="2024-01-02,NA,NA,c0")
    features = {"size": {"kind": "number", "optional": True}, "color": {"kind": "category", "optional": True}}
    prepared = data.prepare(checked(csv(tmp_path, made), features=features))

    assert np.isnan(prepared.sample.encoded.numbers[:3, 0]).tolist() == [True, True, False]
    assert prepared.sample.encoded.categories[0, 0] == 1  # empty is missing
    assert "NA" in prepared.encoder.category_features[0].vocabulary  # a country, perhaps


TIME = {"by": "time", "column": "day", "validation_from": date(2024, 1, 20), "test_from": date(2024, 1, 30)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r30": "2024-01-31,big,123,c0"}, "size: a number is expected, shop.csv line 32 has 'big'"),
        (
            {"r3": "2024-01-04,1_0,123,c0", "r30": "2024-01-31,1.000.0,123,c0", "r31": "2024-02-01,x,123,c0"},
            "size: a number is expected, shop.csv line 5 has '1_0' (and 2 more like it)",
        ),
        ({"r5": "soon,1,123,c0"}, "day: a date or time is expected, shop.csv line 7 has 'soon'"),
        ({"r7": "2024-01-08,1,123"}, "shop.csv:\n  line 9 has 3 fields, the first line has 4"),
        ({"r7": "2024-01-08,1,123,4,5"}, "shop.csv:\n  line 9 has 5 fields, the first line has 4"),
        ({"r7": "\n\n2024-01-08,1,123"}, "shop.csv:\n  line 11 has 3 fields"),
    ],
)
def test_the_line_of_a_csv_file_that_is_wrong(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    assert message in problems(checked(csv(tmp_path, lines(**changes)), split=TIME))


def test_the_line_is_found_far_down_and_in_the_right_file(tmp_path: Path) -> None:
    csv(tmp_path, lines(), name="a.csv")
    csv(tmp_path, [f"2024-01-01,{i},red,c{i % 3}" for i in range(100_000)] + ["2024-01-01,no,red,c0"], name="b.csv")

    assert "size: a number is expected, b.csv line 100,002 has 'no'" in problems(checked(tmp_path))


def test_a_csv_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = csv(tmp_path, lines())
    path.write_bytes(path.read_bytes().replace(b"c2", b"gr\xfcn", 1))

    assert "line 4 is not UTF-8: 2024-01-03,2.5,123,gr?n" in problems(checked(path)).replace(", ", ",")


def test_an_empty_csv_file(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").touch()

    assert "shop.csv" in problems(checked(tmp_path / "shop.csv"))


def test_csv_is_not_streamed(tmp_path: Path) -> None:
    settings = {"path": str(csv(tmp_path, lines())), "target": "sold", "stream": True}

    assert "data.stream: only Parquet" in problems(checked(tmp_path, data=settings)).replace("\n  ", " ")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("damage", ["head", "data"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, damage: str, stream: bool) -> None:
    pq.write_table(pa.table(columns()), tmp_path / "good.parquet")
    whole = (tmp_path / "good.parquet").read_bytes()
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(whole[:100] if damage == "head" else whole[:4] + b"\xff" * 200 + whole[204:])
    settings = {"path": str(tmp_path), "target": "sold", "stream": stream, "category_min_count": 1}

    assert "bad.parquet:\n  cannot be read: " in problems(checked(tmp_path, data=settings))


@pytest.mark.parametrize(
    "split",
    [
        {"by": "order"},
        {"by": "random"},
        {"by": "group", "column": "color"},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_table_without_rows(tmp_path: Path, split: dict[str, str], stream: bool) -> None:
    pq.write_table(pa.table(columns()).slice(0, 0), tmp_path / "shop.parquet")
    settings = {"path": str(tmp_path), "target": "sold", "stream": stream}

    assert "split: no rows to train" in problems(checked(tmp_path, data=settings, split=split))
