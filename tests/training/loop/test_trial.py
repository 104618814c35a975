"""The two trials: that sound networks pass, and broken ones do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training import small
from training import fit
from training.loop import trial
from training.loop.run import Run
from training.rows import Prepared
from training.task import TaskName


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_sound_network_learns_a_batch_by_heart(task: TaskName) -> None:
    heard = small.Heard()
    data = small.prepared(task, noise=3.0)  # nothing to be learnt but by heart
    model = small.network(task, width=64, dropout=0.5, normalised=True)
    settings = small.settings(task, label_smoothing=0.0 if task == "regression" else 0.2, weight_decay=1.0)
    outcome = trial.overfit_batch(model, data, settings, heard)

    assert outcome.learnt
    assert outcome.final_loss <= 0.05 * outcome.base_loss
    assert outcome.steps == sum(heard.steps) < 500
    assert 32 <= outcome.rows <= 34


def test_a_broken_network_does_not() -> None:
    import keras

    model = small.network()
    blind = keras.Model(model.input, model(keras.tree.map_structure(keras.ops.zeros_like, model.input)))
    outcome = trial.overfit_batch(blind, small.prepared(), small.settings(), small.Heard())

    assert not outcome.learnt
    assert outcome.steps == 500
    assert outcome.final_loss == pytest.approx(outcome.base_loss, rel=0.05)


def test_fast_goes_through_everything_in_two_steps(tmp_path: Path) -> None:
    data = small.prepared()
    asked: list[Any] = []
    data = Prepared(**{**vars(data), "raw_test": lambda chosen: asked.extend(chosen) or []})
    config, few = trial.fast(small.settings(learning_rate="find"), data)
    with Run.open(tmp_path, config) as run:
        record = fit.fit(small.network(), few, config, run, small.Heard()).record
    few.raw_test([0, 5])

    assert record.facts.steps == 2
    assert len(record.evaluations) == 1
    assert len(few.validation) <= 66
    assert data.test.labels[asked].tolist() == few.test.labels[[0, 5]].tolist()
    np.testing.assert_array_equal(data.test.encoded.numbers[asked], few.test.encoded.numbers[[0, 5]])


def test_a_fast_run_is_another_run(tmp_path: Path) -> None:
    config = small.settings()
    with Run.open(tmp_path, config) as run, Run.open(tmp_path, trial.fast(config, small.prepared())[0]) as other:
        assert run.path != other.path
