"""The loop on problems whose answer is known: what it learns, keeps, records and refuses."""

import signal
import threading
import time
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tests.training import small
from tests.waiting import PATIENCE_SECONDS
from training import fit
from training.errors import Interrupted, TrainingError
from training.loop.course import Course
from training.loop.run import Run
from training.rows import Prepared
from training.task import TaskName


def train(
    folder: Path, task: TaskName = "binary", data: Prepared | None = None, model: Any = None, **training: Any
) -> tuple[Any, fit.Outcome, small.Heard]:
    heard = small.Heard()
    model = model or small.network(task)
    with Run.open(folder, small.settings(task, **training)) as run:
        return model, fit.fit(model, data or small.prepared(task), small.settings(task, **training), run, heard), heard


def test_it_learns_an_interaction_and_keeps_the_best_weights(tmp_path: Path) -> None:
    model, outcome, heard = train(tmp_path)
    validation = small.prepared().validation
    auc = roc_auc_score(validation.labels, fit.predict(model, validation.encoded))
    evaluations = outcome.record.evaluations
    best = [each for each in evaluations if each.best][-1]

    assert auc > 0.9
    assert auc == pytest.approx(best.monitor, abs=1e-6)
    assert best.monitor == max(each.monitor for each in evaluations)
    assert [each.epoch for each in evaluations][:2] == [pytest.approx(16 / 31), 1.0]
    assert sum(heard.steps) == evaluations[-1].step == 6 * 31
    assert heard.evaluations == list(evaluations)
    assert outcome.record.stopped == "finished"


@pytest.mark.parametrize(("task", "monitor", "at_most"), [("multiclass", "log_loss", 0.75), ("regression", "rmse", 17)])
def test_it_learns_the_other_tasks(tmp_path: Path, task: TaskName, monitor: str, at_most: float) -> None:
    _, outcome, _ = train(tmp_path, task)
    facts, best = outcome.record.facts, [each for each in outcome.record.evaluations if each.best][-1]

    assert facts.metric == monitor
    assert best.monitor < at_most
    assert best.monitor == min(each.monitor for each in outcome.record.evaluations)
    assert best.validation_loss < facts.base_loss / 1.4


def test_the_record_is_what_happened(tmp_path: Path) -> None:
    model, outcome, _ = train(tmp_path, epochs=4, schedule="constant", averaging=0.0)
    record, data = outcome.record, small.prepared()
    scores = data.task.scores(fit.predict(model, data.validation.encoded))
    best = [each for each in record.evaluations if each.best][-1]
    found = scores[data.validation.labels == 0] < 0.5

    assert best.validation_loss == pytest.approx(log_loss(data.validation.labels, scores.astype(np.float64)), rel=1e-4)
    assert best.sample_loss < record.facts.base_loss
    assert record.facts.class_shares == pytest.approx(
        [1 - data.sample.labels.mean(), data.sample.labels.mean()], abs=1e-6
    )
    assert best.rare_recall == pytest.approx(
        found.mean() if data.sample.labels.mean() > 0.5 else 1 - found.mean(), abs=0.2
    )
    assert record.facts.steps == 4 * record.facts.steps_per_epoch == 4 * 31
    assert record.facts.base_loss == pytest.approx(np.log(2), abs=0.01)
    assert [step for step, _ in record.losses] == list(range(1, 4 * 31 + 1))
    epoch_losses = [loss for step, loss in record.losses if 31 + 16 < step <= 62]
    assert record.evaluations[3].train_loss == pytest.approx(np.mean(epoch_losses), rel=1e-6)
    assert [probe.step - 1 for probe in record.probes] == sorted(
        Course(data.train, small.settings(epochs=4).training).probes
    )
    assert all(probe.loss == dict(record.losses)[probe.step] for probe in record.probes)
    assert [each.learning_rate for each in record.evaluations] == pytest.approx([1e-2] * 8)


def test_it_stops_early_when_nothing_gets_better(tmp_path: Path) -> None:
    _, outcome, _ = train(tmp_path, learning_rate=1e-12, epochs=50, averaging=0.0, patience=2)

    assert outcome.record.stopped == "patience"
    assert [each.best for each in outcome.record.evaluations].count(False) >= 3
    assert len(outcome.record.evaluations) < 50


def test_the_time_limit_ends_it_with_an_evaluation(tmp_path: Path) -> None:
    _, outcome, _ = train(tmp_path, epochs=100_000, patience=100_000, time_limit=1 / 60)

    record = outcome.record
    assert record.stopped == "time limit"
    assert outcome.seconds >= 1
    assert 0 < record.evaluations[-1].step < record.facts.steps / 100


def test_blocks_train_as_well_as_one(tmp_path: Path) -> None:
    _, outcome, _ = train(tmp_path, data=small.prepared(block=300))

    assert outcome.record.facts.steps_per_epoch == 6 * (300 // 64) + 200 // 64
    assert max(each.monitor for each in outcome.record.evaluations) > 0.9


def test_every_row_of_whole_batches_is_seen_once_an_epoch() -> None:
    data, section = small.prepared(count=1000, block=300), small.settings(epochs=2).training
    course = Course(data.train, section)
    for epoch in range(2):
        stretches = [stretch for stretch in course.stretches if stretch.epoch == epoch]
        seen = [stretch.block[0] + row for stretch in stretches for row in course.batches(stretch).ravel()]
        assert len(seen) == len(set(seen)) == 64 * course.steps_per_epoch
        assert set(seen) <= set(range(1000))
    assert course.stretches[0].stop == course.stretches[1].start
    assert not np.array_equal(course.batches(course.stretches[0]), course.batches(course.stretches[4]))


def test_no_call_goes_past_what_is_due() -> None:
    course = Course(small.prepared(count=1000, block=300).train, small.settings(epochs=2).training)
    stops, step = [], 0
    while step < course.steps:
        stop = course.next_stop(step)
        assert step < stop <= course.stretches[course.at(step)].stop
        stops, step = [*stops, stop], stop
    assert set(course.evaluations) <= set(stops)
    assert {probe + 1 for probe in course.probes} <= set(stops)


def test_slow_blocks_are_waited_for_and_the_wait_is_recorded(tmp_path: Path) -> None:
    """Each takes three times as long as training on the one before."""
    trained = [threading.Event() for _ in range(10)]
    loads = count()

    class Attentive(small.Heard):
        def on_steps(self, count: int, loss: float) -> None:
            super().on_steps(count, loss)
            for done in trained[: sum(self.steps) // 3]:  # 200 rows are three batches
                done.set()

    class Slow(small.InBlocks):
        def load(self, block: tuple[int, ...]) -> Any:
            if before := next(loads):
                began = time.monotonic()
                assert trained[before - 1].wait(PATIENCE_SECONDS)
                threading.Event().wait(2 * (time.monotonic() - began))
            return super().load(block)

    data, config = small.prepared(count=2000, block=200), small.settings(epochs=1)
    data = Prepared(**{**vars(data), "train": Slow(data.sample, 200)})
    with Run.open(tmp_path, config) as run:
        outcome = fit.fit(small.network(), data, config, run, Attentive())

    assert max(probe.input_wait for probe in outcome.record.probes) > 0.3


def test_what_a_source_raises_ends_the_run(tmp_path: Path) -> None:
    data = small.prepared(block=300)

    class Broken(small.InBlocks):
        def load(self, block: tuple[int, ...]) -> Any:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path, data=Prepared(**{**vars(data), "train": Broken(data.sample, 300)}))


def test_a_loss_that_is_not_finite_goes_back_with_half_the_learning_rate(tmp_path: Path) -> None:
    import keras

    class Fragile(keras.layers.Layer):
        """Not a number beyond 1.105: AdamW with a constant gradient moves its weight by the learning rate a step."""

        def build(self, shape: Any) -> None:
            self.weight = self.add_weight(name="weight", shape=(), initializer="zeros")
            self.built = True

        def call(self, logits: Any) -> Any:
            self.add_loss(-self.weight)
            return logits + keras.ops.where(self.weight > 1.105, np.float32(np.nan), np.float32(0.0))

    def fragile() -> Any:
        model = small.network()
        return keras.Model(model.input, Fragile()(model.output))

    # 31 steps of 0.02 go to 0.62, where it is evaluated, 31 more of 0.01 to 0.93, and of 0.005 to 1.085.
    options = {"learning_rate": 2e-2, "schedule": "constant", "averaging": 0.0, "weight_decay": 0.0, "epochs": 3}
    options |= {"evaluations_per_epoch": 1}
    _, outcome, heard = train(tmp_path, model=fragile(), **options)
    record = outcome.record

    assert record.stopped == "finished"
    assert record.rollbacks == (57, 81)
    assert record.evaluations[-1].learning_rate == pytest.approx(5e-3)
    assert len([note for note in heard.notes if "not finite" in note]) == 2
    assert sum(heard.steps) == record.facts.steps
    assert [step for step, _ in record.losses] == list(range(1, record.facts.steps + 1))
    assert np.isfinite([loss for _, loss in record.losses]).all()


def test_a_run_that_diverges_for_good_says_what_to_change(tmp_path: Path) -> None:
    import keras

    model = small.network()
    broken = keras.Model(model.input, model.output + keras.ops.log(-keras.ops.ones_like(model.output)))
    with pytest.raises(TrainingError, match=r"(?s)not finite at step 1,.*learning_rate.*clip_norm"):
        train(tmp_path, model=broken)
    reading = Run.read(tmp_path / "small")

    assert reading.record.stopped == "diverged"
    assert reading.record.rollbacks == (1, 1, 1, 1)
    assert reading.status.state == "diverged"


def test_signals_are_only_ours_while_it_trains(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    class Impatient(small.Heard):
        def on_evaluation(self, evaluation: Any) -> None:
            super().on_evaluation(evaluation)
            if len(self.evaluations) == 3:
                signal.raise_signal(signal.SIGINT)

    config = small.settings()
    with Run.open(tmp_path, config) as run, pytest.raises(Interrupted, match="saved at step 47 of 186"):
        fit.fit(small.network(), small.prepared(), config, run, Impatient())
    assert Run.read(run.path).record.stopped == "interrupted"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    _, outcome, heard = train(tmp_path)

    assert heard.steps[0] == 47
    assert "going on from step 47 of 186" in heard.notes[0]
    _, straight, _ = train(tmp_path / "other")
    assert outcome.record.evaluations == straight.record.evaluations


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, outcome, _ = train(tmp_path)
    second, again, heard = train(tmp_path)

    assert again.record == outcome.record
    assert sum(heard.steps) == 186
    assert not heard.evaluations
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(TrainingError, match=r"another network .* --fresh"):
        train(tmp_path, model=small.network(width=16))


def test_class_weights_move_the_answers(tmp_path: Path) -> None:
    means = {}
    for weight in (1.0, 5.0):
        model, _, _ = train(tmp_path, class_weights={"yes": weight}, epochs=2)
        means[weight] = fit.predict(model, small.prepared().validation.encoded).mean()

    assert means[5.0] > means[1.0] + 0.3


def test_the_learning_rate_is_found(tmp_path: Path) -> None:
    _, outcome, heard = train(tmp_path, learning_rate="find")
    curve = outcome.record.range_test
    rate = outcome.record.evaluations[0].learning_rate
    _, again, _ = train(tmp_path / "again", learning_rate="find")

    assert 1e-3 < rate < 0.3
    assert "learning-rate range test" in heard.notes[0]
    assert all(a[0] < b[0] for a, b in pairwise(curve))
    assert again.record == outcome.record.model_copy(update={"probes": again.record.probes})
    assert max(each.monitor for each in outcome.record.evaluations) > 0.9


def test_adversarial_training_sees_other_inputs(tmp_path: Path) -> None:
    config = small.settings(epochs=2)
    harder = config.model_copy(update={"adversarial": small.adversarial(epsilon=0.5)})
    losses = {}
    for name, each in {"clean": config, "adversarial": harder}.items():
        with Run.open(tmp_path, each) as run:
            losses[name] = fit.fit(small.network(), small.prepared(), each, run, small.Heard()).record.losses[-1][1]

    assert losses["adversarial"] > losses["clean"] + 0.05
