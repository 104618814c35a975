"""The loop, its moving average and what it keeps, on a problem whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, NumberFeature
from training import fit
from training.presets import tabular
from training.presets.inputs import ModelInputs
from training.rows import Rows
from training.sections import TabularModel, TrainingSection
from training.task import TASKS

ENCODER = Encoder(
    [
        NumberFeature(name="x", required=False, minimum=-3, maximum=3, example=0),
        CategoryFeature(name="c", required=True, vocabulary=("a", "b"), example="a"),
    ]
)
SECTION = TrainingSection(epochs=6, batch_size=64, evaluations_per_epoch=2, patience=3)


def rows(count: int, seed: int) -> Rows:
    """Late when x is positive in category a, and when it is negative in b: no single feature says anything."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 1)).astype(np.float32)
    x[random.random((count, 1)) < 0.1] = np.nan
    codes = random.integers(2, 4, (count, 1)).astype(np.int32)
    labels = (np.nan_to_num(x) > 0) == (codes == 2)
    return Rows(Encoded(x, codes), labels[:, 0].astype(np.float32))


def run(workdir: Path, section: TrainingSection = SECTION) -> tuple[object, fit.History, list[int]]:
    import keras

    keras.utils.set_random_seed(0)
    train = rows(2000, 1)
    inputs = ModelInputs(TASKS["binary"], ("on_time", "late"), ENCODER, train)
    logits = tabular.build(inputs, TabularModel(hidden=[32], number_bins=8, dropout=0.0))
    steps: list[int] = []
    told = fit.Progress(on_steps=lambda count, loss: steps.append(count), on_evaluation=lambda _: None)
    history = fit.fit(logits, train, rows(500, 2), section, workdir, told)
    return logits, history, steps


def test_it_learns_an_interaction_and_keeps_the_best_weights(tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    logits, history, steps = run(tmp_path)
    validation = rows(500, 2)
    auc = roc_auc_score(validation.labels, fit.predict(logits, validation.encoded))

    assert history.best.validation_auc > 0.9
    assert auc == pytest.approx(history.best.validation_auc, abs=1e-6)
    assert [e.epoch for e in history.evaluations][:2] == [pytest.approx(16 / 31), 1.0]
    assert sum(steps) == 31 * len(history.evaluations) / 2
    assert (tmp_path / "best.weights.h5").exists()


def test_it_stops_early_when_nothing_gets_better(tmp_path: Path) -> None:
    stuck = SECTION.model_copy(update={"learning_rate": 1e-12, "epochs": 50, "averaging": 0.0})
    _, history, _ = run(tmp_path, stuck)

    assert len(history.evaluations) < 50
    assert history.since_best() > stuck.patience


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    first, second = (run(tmp_path)[0] for _ in range(2))

    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_average_is_the_one_that_numpy_computes() -> None:
    import keras

    dense = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    averages = fit.Averages(dense, momentum=0.5)
    expected = dense.get_weights()[0]
    for step in range(6):
        dense.set_weights([np.full((1, 1), float(step)), np.zeros(1)])
        averages.update()
        momentum = min(0.5, (1 + step) / (10 + step))
        expected = momentum * expected + (1 - momentum) * step
    with averages.in_place():
        inside = dense.get_weights()[0]

    np.testing.assert_allclose(inside, expected, rtol=1e-5)
    np.testing.assert_array_equal(dense.get_weights()[0], np.full((1, 1), 5.0))
