"""Each disease in data that really has it, and none in data that has not."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_classification

from contract.evidence import DataWarning
from training import config, split
from training.checking import checks, shift
from training.errors import DataError

ROWS = 3_000


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers for a test whichever were before it; not those of the tables below."""
    return np.random.default_rng(11)


def healthy(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Numbers and a category that tell something of the target, and not all of it."""
    rng = np.random.default_rng(seed)
    x, y = make_classification(
        rows, n_features=5, n_informative=3, class_sep=0.7, flip_y=0.1, random_state=seed, shuffle=True
    )
    columns: dict[str, object] = {f"x{i}": column for i, column in enumerate(x.T)}
    color = np.where(rng.random(rows) < 0.7, np.where(y == 1, "red", "blue"), rng.choice(["green", "gold"], rows))
    return pa.table(columns | {"color": color, "sold": np.where(y == 1, "yes", "no")})


def with_columns(table: pa.Table, **columns: object) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def checked(table: pa.Table, **sections: object) -> config.TrainingConfig:
    def kind(name: str) -> dict[str, object]:
        return {"kind": "category" if table[name].type == pa.string() else "number", "optional": True}

    features = {name: kind(name) for name in table.column_names if name not in ("sold", "day")}
    raw = {
        "name": "shop",
        "task": "binary",
        "data": {"path": "shop.csv", "target": "sold", "positive": "yes"},
        "split": {"by": "random"},
        "features": features,
    }
    return config.parse(raw | sections)


def parts_of(table: pa.Table, settings: config.TrainingConfig) -> split.Parts:
    labels = None
    if settings.task != "regression":
        labels = np.unique(table["sold"].to_numpy(zero_copy_only=False), return_inverse=True)[1].astype(np.int32)
    return split.parts(settings.split, 0, len(table), None, labels)


def found(table: pa.Table, **sections: object) -> list[DataWarning]:
    settings = checked(table, **sections)
    return list(checks.warnings(settings, table, parts_of(table, settings)))


def only(warnings: list[DataWarning]) -> DataWarning:
    assert len(warnings) == 1, warnings
    return warnings[0]


def named(warnings: list[DataWarning]) -> set[tuple[str, str | None]]:
    return {(warning.check, warning.column) for warning in warnings}


@pytest.mark.parametrize("seed", range(5))
def test_healthy_data_raises_no_warning(seed: int) -> None:
    assert found(healthy(seed=seed)) == []


def test_breast_cancer_raises_no_warning() -> None:
    data = load_breast_cancer()
    columns = {name.replace(" ", "_"): column for name, column in zip(data.feature_names, data.data.T, strict=True)}
    table = pa.table(columns | {"sold": np.where(data.target == 0, "yes", "no")})

    assert found(table, split={"by": "random", "validation": 0.15}) == []


def test_copies_in_iris_are_found() -> None:
    """Rows 101 and 142 are the same in scikit-learn's copy of the data."""
    data = load_iris()
    columns = {f"x{i}": column for i, column in enumerate(data.data.T)}
    table = pa.table(columns | {"sold": data.target_names[data.target].astype(str)})
    settings = checked(table, task="multiclass", data={"path": "iris.csv", "target": "sold"})
    rows = np.arange(150)
    parts = (np.setdiff1d(rows, [142, *range(0, 150, 3)]), rows[0:150:6], np.union1d([142], rows[3:150:6]))
    copies = [each for each in checks.warnings(settings, table, parts) if each.check == "duplicates"]

    assert [each.seen.split(" rows")[0] for each in copies] == ["1 of 26 test"]
    assert "row 142 is row 101" in copies[0].seen


def test_digits_come_from_other_writers_at_the_end() -> None:
    """scikit-learn's own example tests on the second half for that reason."""
    data = load_digits()
    table = pa.table({f"x{i}": column for i, column in enumerate(data.data.T)} | {"sold": data.target.astype(str)})
    warnings = found(
        table,
        task="multiclass",
        data={"path": "digits.npz", "target": "sold"},
        split={"by": "random", "validation": 0.15},
    )

    assert {warning.check for warning in warnings} == {"constant", "order"}


def test_a_column_that_is_mostly_missing(rng: np.random.Generator) -> None:
    values = [float(rng.normal()) if i % 20 == 0 else None for i in range(ROWS)]
    warning = only(found(with_columns(healthy(), rebate=values)))

    assert (warning.check, warning.column) == ("missing", "rebate")


def test_a_constant_column() -> None:
    warning = only(found(with_columns(healthy(), country=["NZ"] * ROWS)))

    assert (warning.check, warning.column, warning.seen) == ("constant", "country", "every training row has 'NZ'")


def test_many_constant_columns_are_one_warning() -> None:
    warning = only(found(with_columns(healthy(), **{f"pixel{i}": [0] * ROWS for i in range(20)})))

    assert (warning.check, warning.column) == ("constant", None)
    assert "20 columns, pixel0" in warning.seen


@pytest.mark.parametrize(
    "values", [list(range(ROWS)), [f"customer {i}" for i in range(ROWS)]], ids=["running number", "name"]
)
def test_an_identifier(values: list[object]) -> None:
    warning = only(found(with_columns(healthy(), customer=values)))

    assert (warning.check, warning.column) == ("identifier", "customer")


def test_numbers_that_are_codes(rng: np.random.Generator) -> None:
    warning = only(found(with_columns(healthy(), zip_code=rng.choice([94103, 10001, 60601, 73301], ROWS))))

    assert (warning.check, warning.column) == ("codes", "zip_code")
    assert 'zip_code = "category"' in warning.advice


def test_outliers_that_break_the_scale(rng: np.random.Generator) -> None:
    values = rng.normal(size=ROWS)
    values[::100] = 1e9
    warning = only(found(with_columns(healthy(), income=values)))

    assert (warning.check, warning.column) == ("outliers", "income")


def test_nines_that_stand_for_a_missing_value(rng: np.random.Generator) -> None:
    values = rng.normal(15, 8, ROWS)
    values[::50] = -999
    warning = only(found(with_columns(healthy(), temp=values)))

    assert (warning.check, warning.column) == ("outliers", "temp")
    assert "-999" in warning.seen


def test_a_wide_distribution_has_no_outliers(rng: np.random.Generator) -> None:
    assert found(with_columns(healthy(), income=rng.lognormal(10, 2, ROWS))) == []


def test_copies_across_the_split() -> None:
    table = healthy()
    twice = pa.concat_tables([table, table.slice(0, 600)])
    warnings = found(twice)

    assert {warning.check for warning in warnings} == {"duplicates"}
    settings = checked(twice)
    train, _, test = parts_of(twice, settings)
    rows = [tuple(row.values()) for row in twice.to_pylist()]
    expected = len([i for i in test if rows[i] in {rows[k] for k in train}])
    assert f"{expected} of {len(test)} test rows" in warnings[-1].seen


def test_questions_with_few_answers_are_no_copies(rng: np.random.Generator) -> None:
    table = pa.table(
        {
            "a": rng.choice(["x", "y"], ROWS),
            "b": rng.choice(["u", "v", "w"], ROWS),
            "sold": rng.choice(["yes", "no"], ROWS),
        }
    )

    assert found(table) == []


def test_the_same_picture_in_two_parts(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (100, 4, 4, 1), dtype=np.uint8)
    pixels[80:85] = pixels[[0, 1, 2, 4, 5]]
    table = pa.table({"sold": ["yes", "no"] * 50})
    raw = {"features": {"photo": "image"}, "model": {"preset": "image"}, "split": {"by": "order"}}
    settings = checked(table, **raw)
    rows = np.arange(100)
    warnings = checks.warnings(settings, table, (rows[:50], rows[50:75], rows[75:]), pixels)

    assert [each.seen[:7] for each in warnings if each.check == "duplicates"] == ["3 of 25"]  # two have another label


def test_a_feature_that_gives_the_answer_away(rng: np.random.Generator) -> None:
    table = healthy()
    late = np.where(table["sold"].to_numpy() == "yes", 15.0, -30.0) + rng.uniform(0, 14, ROWS)
    warning = only(found(with_columns(table, delay=late)))

    assert (warning.check, warning.column) == ("leak", "delay")
    assert "ROC AUC 1.0000" in warning.seen


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_leak_of_other_tasks(rng: np.random.Generator, task: str) -> None:
    y = rng.integers(0, 5, ROWS) if task == "multiclass" else rng.normal(size=ROWS)
    table = pa.table({"noise": rng.normal(size=ROWS), "paid": y * 3.0 + rng.uniform(0, 0.1, ROWS), "sold": y})
    table = table if task == "regression" else table.set_column(2, "sold", table["sold"].cast(pa.string()))
    warnings = found(table, task=task, data={"path": "shop.csv", "target": "sold"})

    assert named(warnings) == {("leak", "paid")}


def test_the_target_under_another_name_is_an_error() -> None:
    table = healthy()
    outcome = np.where(table["sold"].to_numpy() == "yes", "won", "lost")
    with pytest.raises(DataError) as caught:
        found(with_columns(table, outcome=outcome))

    assert caught.value.problems[0].startswith("outcome: is the target sold under another name")


def test_the_target_in_another_unit_is_an_error(rng: np.random.Generator) -> None:
    celsius = rng.normal(15, 8, ROWS)
    table = pa.table({"humid": rng.normal(size=ROWS), "fahrenheit": celsius * 9 / 5 + 32, "sold": celsius})
    with pytest.raises(DataError, match="fahrenheit: is the target sold in another unit"):
        found(table, task="regression", data={"path": "weather.csv", "target": "sold"})


def rare(share: float) -> pa.Table:
    table = healthy(10_000)
    positive = np.flatnonzero(table["sold"].to_numpy() == "yes")
    kept = np.concatenate([np.flatnonzero(table["sold"].to_numpy() == "no"), positive[: int(share * 5_000)]])
    return table.take(pa.array(np.random.default_rng(1).permutation(kept)))


def test_imbalance_without_a_remedy() -> None:
    warning = only(found(rare(0.05)))

    assert warning.check == "imbalance"
    assert "class_weights" in warning.advice


@pytest.mark.parametrize("remedy", [{"class_weights": "balanced"}, {"focal_gamma": 2.0}])
def test_imbalance_with_a_remedy(remedy: dict[str, object]) -> None:
    assert found(rare(0.05), training=remedy) == []


def test_few_rows_of_a_class() -> None:
    warning = only(found(rare(0.03), training={"class_weights": "balanced"}))

    assert warning.check == "few-rows"
    assert "validation 15 of yes" in warning.seen


def test_too_few_rows_of_a_class_are_an_error() -> None:
    table = healthy()
    parts = parts_of(table, checked(table))
    sold = table["sold"].to_numpy().copy()
    sold[parts[1]] = "no"
    table = table.set_column(table.column_names.index("sold"), "sold", pa.array(sold))
    with pytest.raises(DataError, match="sold: class yes has 0 in validation"):
        checks.warnings(checked(table), table, parts)


def drifting(rows: int = 8_000) -> pa.Table:
    """What tells the target changes with time, as in most of what people do."""
    rng = np.random.default_rng(3)
    time = np.linspace(0, 4, rows)
    x, noise = rng.normal(size=(2, rows))
    season = np.repeat(np.arange(1, 9), rows // 8)
    weight = np.array([2, -2, 2, -2, 2, -2, 2, -2])[season - 1]
    y = weight * x + 0.5 * noise > 0
    return pa.table({"x": x, "wave": np.sin(time), "season": season, "sold": np.where(y, "yes", "no")})


def test_rows_in_order_of_time_with_a_random_split() -> None:
    warning = only(found(drifting()))

    assert warning.check == "order"
    assert "the rows lie in the order of season" in warning.seen


def test_shuffled_rows_have_no_order(rng: np.random.Generator) -> None:
    table = drifting()

    assert found(table.take(pa.array(rng.permutation(len(table))))) == []


def test_a_file_sorted_by_class_is_no_time() -> None:
    assert found(healthy().sort_by("sold")) == []


def test_shift_names_the_feature_that_moved() -> None:
    table = healthy()
    moved = table["x3"].to_numpy() + np.where(np.arange(ROWS) >= 2_250, 1.5, 0.0)
    table = table.set_column(table.column_names.index("x3"), "x3", pa.array(moved))
    warning = only(found(table, split={"by": "order"}))

    assert warning.check == "shift"
    assert "PSI by feature: x3" in warning.seen
    assert "x1" not in warning.seen


def test_a_shift_of_several_features_together() -> None:
    """Each alone is as before; their correlation is another one."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, ROWS))
    b = np.where(np.arange(ROWS) >= 2_250, a + 0.3 * b, -a + 0.3 * b) / np.hypot(1, 0.3)
    table = pa.table({"a": a, "b": b, "sold": np.where(rng.normal(size=ROWS) + a > 0, "yes", "no")})
    warning = only(found(table, split={"by": "order"}))

    assert warning.check == "shift"
    assert "no feature shows it alone" in warning.seen


def test_psi_is_within_chance_as_often_as_asked() -> None:
    """Against its null distribution, on 300 pairs of samples from one population."""
    rng = np.random.default_rng(5)
    n, m, bins = 400, 300, 10
    edges = np.quantile(rng.normal(size=100_000), np.linspace(0, 1, bins + 1)[1:-1])

    def counts(size: int) -> np.ndarray:
        return np.bincount(np.searchsorted(edges, rng.normal(size=size)), minlength=bins)

    values = [shift.population_stability(counts(n), counts(m)) for _ in range(300)]

    assert np.mean(np.array(values) > chi2.ppf(0.95, bins - 1) * (1 / n + 1 / m)) == pytest.approx(0.05, abs=0.03)


def test_small_parts_do_not_shift_by_chance() -> None:
    shares = []
    for seed in range(20):
        table = healthy(400, seed)
        settings = checked(table)
        train, _, test = parts_of(table, settings)
        x = checks.quick.matrix(table, settings.features)
        shares.append(bool(list(shift.warnings(x, train, test))))

    assert sum(shares) <= 1


def test_a_sample_is_not_blamed_for_few_rows() -> None:
    table = healthy(60)
    settings = checked(table)
    train, validation, test = parts_of(table, settings)
    warnings = checks.warnings(settings, table, (train, validation[:1], test), whole=False)

    assert "few-rows" not in {warning.check for warning in warnings}
