"""The config is strict: each mistake is named with its key and, where there is one, the nearest valid key."""

import tomllib
from pathlib import Path

import pytest

from training import config
from training.errors import ConfigError

TRAIN = Path("examples/flights/train.toml")


def problems(text: str, *overrides: str) -> list[str]:
    raw = tomllib.loads(TRAIN.read_text()) | tomllib.loads(text)
    for override in overrides:
        config._set(raw, override)
    with pytest.raises(ConfigError) as caught:
        config.parse(raw)
    return caught.value.problems


EXAMPLES = sorted(Path("examples").rglob("*.toml"))


def test_the_examples_are_valid_and_each_has_a_name_of_its_own() -> None:
    names = [config.load(path).name for path in EXAMPLES if path.name != "retrain.toml"]  # of a model that is there

    assert len(set(names)) == len(names) >= 6
    assert config.load(Path("examples/flights/retrain.toml")).name in names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[trainning]\nepochs = 3", "trainning: unknown key; did you mean 'training'?"),
        ("[training]\nepoch = 3", "training.epoch: unknown key; did you mean 'epochs'?"),
        ('[training]\nepochs = "3"', "training.epochs: input should be a valid integer, got '3'"),
        (
            '[retrain.on_quality]\nmetric = "mae"\nbound = 3.0',
            "config: retrain.on_quality.metric is one of roc_auc, log_loss, brier, calibration_error, accuracy, "
            "precision, recall, f1 where the task is binary",
        ),
        (
            '[retrain]\nschedule = "0 25 * * 1"',
            "retrain.schedule: expected a cron expression of five fields such as '0 3 * * 1', got '0 25 * * 1': "
            "Bad hour",
        ),
        ("[training]\nepochs = 0", "training.epochs: input should be greater than or equal to 1, got 0"),
        ('task = "binry"', "task: input should be 'binary', 'multiclass' or 'regression', got 'binry'"),
        ('name = "../etc"', "name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', got '../etc'"),
        (
            '[split]\nby = "random"\ntset = 0.1',
            "split.tset: unknown key; did you mean 'test'?",
        ),
        (
            '[split]\nby = "random"\ntest = 0.5\nvalidation = 0.5',
            "split: validation and test together must leave rows to train on",
        ),
        (
            '[split]\nby = "time"\ncolumn = "date"\nvalidation_from = 2013-09-01\ntest_from = 2013-09-01',
            "split: validation_from must be before test_from",
        ),
        ('[features]\ncarrier = { kind = "category", optinal = true }',
         "features.carrier.optinal: unknown key; did you mean 'optional'?"),
        ('[features]\ncarrier = { kind = "category", on_out_of_range = "reject" }',
         "features.carrier: on_out_of_range is for numbers; a category has on_unseen"),
        ('[features]\noutcome = "category"', "config: the target 'outcome' must not be a feature"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_all_mistakes_come_at_once() -> None:
    assert len(problems("[training]\nepochs = 0\nsede = 1\n[model]\ndropout = 1.5")) == 3


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse({"name": "x", "features": {"a": "number"}})

    assert sorted(caught.value.problems) == ["data: is missing", "split: is missing"]


def test_overrides_are_toml_or_bare_strings() -> None:
    checked = config.load(TRAIN, ["training.epochs=5", "data.path=elsewhere", "model.hidden=[8]"], name="other")

    assert (checked.name, checked.training.epochs, checked.data.path, checked.model.hidden) == (
        "other",
        5,
        "elsewhere",
        [8],
    )


@pytest.mark.parametrize("override", ["training.epochs", "=3", "name.x=1"])
def test_an_override_that_is_none(override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        config.load(TRAIN, [override])


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        config.load(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path / "missing.toml")
