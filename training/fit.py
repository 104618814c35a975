"""The training loop: from the first step, or from where a killed run was, to the best weights.

Everything that a step depends on is a function of the config, the data and what a checkpoint holds; nothing depends on
the clock but when checkpoints are written, how many steps go into a call, and the time limit. So a run that is killed
and resumed ends in the same weights, bit for bit, as one that is not.
"""

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract.evidence import improvement
from contract.features import Encoded
from training.diagnosis.probe import Prober
from training.diagnosis.signals import Evaluation, Facts, Probe, Record
from training.errors import Interrupted, TrainingError
from training.evaluation.adversarial import Scales, attackable
from training.listener import Listener
from training.loop import loss, range_test, schedule
from training.loop.ahead import Ahead, Batches
from training.loop.averages import Averages
from training.loop.checkpoint import LossSum, Position
from training.loop.course import Course
from training.loop.interruption import Interruption, Stop
from training.loop.monitor import LARGEST_CHUNK, Monitor, Seen
from training.loop.optimizer import AdamW
from training.loop.pace import Pace
from training.loop.run import Run
from training.loop.state import State
from training.loop.step import Adversary, Steps
from training.rows import Prepared
from training.sections import TrainingConfig

MOST_ROLLBACKS = 3
RATE_WITHOUT_RESULT = 2e-3  # the default of the config
LOOKED_AT = 1024

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What came of a run: everything recorded (`record.stopped` says why it ended), and the seconds it trained, in all
    its processes together."""

    record: Record
    seconds: float


def fit(model: keras.Model, prepared: Prepared, config: TrainingConfig, run: Run, listener: Listener) -> Outcome:
    """Train `model` (packed inputs -> logits) in place, from where `run` is; afterwards it holds the weights of the
    best evaluation. The model is as devices.building made it, before any training.

    Raises Interrupted after SIGTERM or Ctrl-C, with all saved; ConfigError and TrainingError for what cannot begin, and
    TrainingError when the loss is not finite however often the learning rate is halved.
    """
    run.is_on(prepared.fingerprint)
    with Interruption() as interruption:
        return Loop(model, prepared, config, run, listener, interruption).run()


def predict(model: keras.Model, encoded: Encoded) -> NDArray[np.float32]:
    """The output of a model with one output, float32 [n] or [n, classes]."""
    arrays = {name: getattr(encoded, name) for name in model.input}
    if encoded.texts is not None:  # Keras takes strings as tensors alone
        arrays["texts"] = tf.constant(encoded.texts)
    if model.distribute_strategy.num_replicas_in_sync > 1:  # Keras shares out what comes as a dataset, and nothing else
        outputs: NDArray[np.float32] = model.predict(arrays, batch_size=LARGEST_CHUNK, verbose=0)
        return outputs
    starts = range(0, encoded.rows, LARGEST_CHUNK)  # no dataset: to build one takes thirty times what a few rows do
    chunks = ({name: array[at : at + LARGEST_CHUNK] for name, array in arrays.items()} for at in starts)
    return np.concatenate([model.predict_on_batch(chunk) for chunk in chunks])


class Loop:
    """A run in this process. `position` is where it is; the variables hold the rest."""

    def __init__(
        self,
        model: keras.Model,
        prepared: Prepared,
        config: TrainingConfig,
        run: Run,
        listener: Listener,
        interruption: Interruption,
    ) -> None:
        section = config.training
        self._config, self._section, self._task = config, section, prepared.task
        self._prepared, self._run, self._listener, self._interruption = prepared, run, listener, interruption
        self._loss = loss.of(section, prepared)
        self._averages = Averages(model, section.averaging)
        optimizer = AdamW(model, section.weight_decay, section.clip_norm)
        self._steps = Steps(model, self._loss, optimizer, self._averages, _adversary(model, prepared, config))
        self._state = State(model, self._steps.variables)
        self._course = Course(prepared.train, section)
        self._shares = schedule.shares(section, self._course.steps)
        self._ahead = Ahead(list(model.input), prepared.train, self._course, interruption)
        self._monitor = Monitor(
            model, prepared.task, self._loss, prepared.validation, prepared.sample, 4 * self._course.batch
        )
        self._prober = Prober(model, prepared.task, self._loss.rows)
        self._position: Position | None = None
        self._pace = Pace()
        self._started = self._saved = self._probed = time.perf_counter()
        self._seconds_before = self._waited = 0.0

    @property
    def position(self) -> Position:
        """Where the run is."""
        assert self._position is not None, "the run has begun"  # noqa: S101  # narrows the type
        return self._position

    def run(self) -> Outcome:
        """To the end. Raises Interrupted, TrainingError."""
        try:
            self._begin()
            while self.position.record.stopped == "running":
                self._advance()
        except Stop:
            raise self._interrupted() from None
        return self._finish()

    def _begin(self) -> None:
        saved = self._run.checkpoints.load()
        if saved is None:
            self._position = self._first_position()
            self._save(good=True)
            return
        arrays, position = saved
        self._state.restore(arrays)
        self._position, self._seconds_before = position, position.seconds
        self._listener.on_steps(position.step, position.since_point.mean)
        self._listener.on_note(f"going on from step {position.step:,} of {self._course.steps:,} ({self._run.path})")

    def _first_position(self) -> Position:
        curve: range_test.Curve = ()
        rate = self._section.learning_rate
        if rate == "find":
            curve = self._test_range()
            found = range_test.steepest(curve)
            rate = found or RATE_WITHOUT_RESULT
            say = f"{found:g}" if found else f"none at which the loss falls; taking {rate:g}"
            self._listener.on_note(f"learning-rate range test: {say}")
        return Position(learning_rate=rate, record=Record(facts=self._facts(), range_test=curve))

    def _advance(self) -> None:
        """One call of the compiled function, or one evaluation, and whatever else is due."""
        if self._is_evaluation_due():
            self._evaluate()
        elif self._section.time_limit is not None and self._seconds() >= 60 * self._section.time_limit:
            self._stop_here("time limit")
        else:
            self._train()
        if time.perf_counter() - self._saved >= self._section.checkpoint_seconds:
            self._save()
        self._interruption.check()

    def _train(self) -> None:
        step = self.position.step
        probed = step in self._course.probes
        count = 1 if probed else min(self._course.next_stop(step) - step, self._pace.steps)
        place = self._course.at(step)
        batches = self._ahead.at(place)
        with self._interruption.at_once():
            self._steps.trace(batches)
            if probed:
                self._prober.before(*_batch(batches, step))
        rates = self._rates(step, step + count)
        started = time.perf_counter()
        losses = self._steps.run(batches, step, rates)
        if not probed:
            self._pace.took(count, time.perf_counter() - started)
        if not np.isfinite(losses).all():
            self._roll_back(step + int(np.isfinite(losses).argmin()) + 1)
            return
        self._account(losses.astype(np.float64).tolist())
        if probed:
            self._probe(float(losses[0]), float(rates[0]))
        self._listener.on_steps(count, float(losses.mean()))

    def _account(self, losses: list[float]) -> None:
        """Take the losses of the steps that are done into the position."""
        position, interval = self.position, self._course.loss_interval
        points, since_point, step = list(position.record.losses), position.since_point, position.step
        while losses:
            part, losses = losses[: interval - step % interval], losses[interval - step % interval :]
            since_point, step = since_point.plus(part), step + len(part)
            position = position.model_copy(update={"since_evaluation": position.since_evaluation.plus(part)})
            if step % interval == 0:
                points.append((step, since_point.mean))
                since_point = LossSum()
        record = position.record.model_copy(update={"losses": tuple(points)})
        self._position = position.model_copy(update={"step": step, "since_point": since_point, "record": record})

    def _probe(self, loss_before: float, rate: float) -> None:
        now = time.perf_counter()
        share = min(1.0, (self._ahead.waited - self._waited) / (now - self._probed))
        self._waited, self._probed = self._ahead.waited, now
        probe: Probe = self._prober.after(self.position.step, loss_before, rate, share)
        self._recorded(probes=(*self.position.record.probes, probe))
        self._listener.on_probe(probe)

    def _is_evaluation_due(self) -> bool:
        return self._course.is_evaluated(self.position.step) and not self._is_evaluated()

    def _is_evaluated(self) -> bool:
        done = self.position.record.evaluations
        return bool(done) and done[-1].step == self.position.step

    def _stop_here(self, why: str) -> None:
        """End with an evaluation of the weights as they are."""
        if not self._is_evaluated():
            self._evaluate(stopped=why)
        else:
            self._recorded(stopped=why)
            self._save(good=True)

    def _evaluate(self, stopped: str = "running") -> None:
        with self._averages.in_place():
            seen = self._monitor.look(self._interruption.check)
            best = seen is not None and self._is_best(seen)
            if best:
                self._run.checkpoints.save_best(self.position.step, self._state.model_arrays())
        if seen is None:
            self._roll_back(self.position.step)
            return
        evaluation = self._evaluation(seen, best)
        evaluations = (*self.position.record.evaluations, evaluation)
        self._recorded(evaluations=evaluations, stopped=self._stopped(evaluations, stopped))
        self._position = self.position.model_copy(update={"since_evaluation": LossSum()})
        self._save(good=True)
        self._listener.on_evaluation(evaluation)

    def _evaluation(self, seen: Seen, best: bool) -> Evaluation:
        step = self.position.step
        return Evaluation(
            step=step,
            epoch=self._course.epoch(step),
            train_loss=self.position.since_evaluation.mean,
            learning_rate=float(self._rates(max(step - 1, 0), step or 1)[0]),
            best=best,
            **vars(seen),
        )

    def _is_best(self, seen: Seen) -> bool:
        """By the monitored metric, and by the loss where that is the same: a ranking that is right from the first epoch
        says nothing of probabilities that are still far from sure."""
        before = [each for each in self.position.record.evaluations if each.best]
        if not before:
            return True
        gain = improvement(self._task.monitor, seen.monitor, before[-1].monitor)
        return gain > 0 or (gain == 0 and seen.validation_loss < before[-1].validation_loss)

    def _stopped(self, evaluations: tuple[Evaluation, ...], wanted: str) -> str:
        stale = len(evaluations) - 1 - max(i for i, each in enumerate(evaluations) if each.best)
        if evaluations[-1].step == self._course.steps:
            return "finished"
        return "patience" if stale > self._section.patience else wanted

    def _roll_back(self, step: int) -> None:
        """The loss of this step is not finite: go back to the last evaluation, with half the learning rate."""
        rollbacks = (*self.position.record.rollbacks, step)
        if len(rollbacks) > MOST_ROLLBACKS:
            raise self._diverged(rollbacks)
        saved = self._run.checkpoints.load(good=True)
        assert saved is not None, "the first position is a good one"  # noqa: S101  # narrows the type
        arrays, good = saved
        self._state.restore(arrays)
        self._listener.on_steps(good.step - self.position.step, good.since_point.mean)
        self._position = good
        self._recorded(rollbacks=rollbacks)
        self._save(good=True)
        rate = good.learning_rate * 0.5 ** len(rollbacks)
        self._listener.on_note(
            f"the loss was not finite at step {step:,}: back to step {good.step:,} with a learning rate of {rate:g}"
        )

    def _diverged(self, rollbacks: tuple[int, ...]) -> TrainingError:
        self._recorded(rollbacks=rollbacks, stopped="diverged")
        self._run.trained(self.position.record, self._seconds())
        rate = self.position.learning_rate * 0.5**MOST_ROLLBACKS
        return TrainingError(
            f"the loss was not finite at step {rollbacks[-1]:,}, nor at the {MOST_ROLLBACKS} attempts before it, even "
            f'with a learning rate of {rate:g}. Set training.learning_rate to {rate / 10:.1g} or to "find", and '
            "training.clip_norm to 1.0; if that does not help, look for extreme values in the numbers, and in the "
            f"model for divisions and logarithms of 0. hornpipe doctor {self._run.path}"
        )

    def _interrupted(self) -> Interrupted:
        if self._position is None:
            return Interrupted("stopped before the first step; the same command starts again")
        self._save()
        self._run.record(self.position.record.model_copy(update={"stopped": "interrupted"}))
        step = f"step {self.position.step:,} of {self._course.steps:,}"
        return Interrupted(f"stopped, and saved at {step} in {self._run.path}; the same command goes on from there")

    def _finish(self) -> Outcome:
        record = self.position.record
        self._state.restore(self._run.checkpoints.load_best(record))
        self._run.trained(record, self.position.seconds)
        return Outcome(record, self.position.seconds)

    def _save(self, good: bool = False) -> None:
        self._position = self.position.model_copy(update={"seconds": self._seconds()})
        self._run.checkpoints.save(self._state.arrays(), self.position, good)
        self._run.record(self.position.record)
        self._saved = time.perf_counter()

    def _recorded(self, **changes: Any) -> None:  # noqa: ANN401  # fields of Record
        record = self.position.record.model_copy(update=changes)
        self._position = self.position.model_copy(update={"record": record})

    def _rates(self, start: int, stop: int) -> NDArray[np.float32]:
        """The learning rates of these steps."""
        record = self.position.record
        factor = self.position.learning_rate * 0.5 ** len(record.rollbacks)
        if self._section.schedule == "plateau":
            factor *= schedule.plateau([each.best for each in record.evaluations], self._section.plateau_patience)
        return (factor * self._shares[start:stop]).astype(np.float32)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _test_range(self) -> range_test.Curve:
        """On batches of the first block; afterwards everything is as it was."""
        before, batches = self._state.arrays(), self._ahead.at(0)
        with self._interruption.at_once():
            self._steps.trace(batches)

        def loss_at(i: int, rate: float) -> float:
            self._interruption.check()
            step = batches.start + i % len(batches.rows)
            return float(self._steps.run(batches, step, np.array([rate], np.float32))[0])

        return range_test.sweep(loss_at, lambda: self._state.restore(before))

    def _facts(self) -> Facts:
        sample, task = self._prepared.sample, self._task
        shares = () if task.name == "regression" else loss.class_shares(sample.labels, self._loss.classes)
        with self._interruption.at_once():
            mean, deviation = self._prober.input_scales(self._monitor.inputs(sample.take(slice(0, LOOKED_AT))))
            initial = self._monitor.train_loss(self._interruption.check)
        return Facts(
            task=task.name,
            metric=task.monitor,
            train_rows=self._prepared.train.rows,
            class_shares=tuple(float(share) for share in shares),
            class_weights=bool(self._loss.weights),
            initial_loss=initial,
            base_loss=self._loss.base(sample.labels),
            input_mean=mean,
            input_deviation=deviation,
            steps=self._course.steps,
            steps_per_epoch=self._course.steps_per_epoch,
            preset=self._config.model.preset,
            split=self._config.split.by,
            clip_norm=self._section.clip_norm,
        )


def _adversary(model: keras.Model, prepared: Prepared, config: TrainingConfig) -> Adversary | None:
    if config.adversarial is None:
        return None
    scales = Scales.of(prepared.encoder, prepared.sample)
    return Adversary(config.adversarial, attackable(model), scales, config.training.seed)


def _batch(batches: Batches, step: int) -> tuple[dict[str, Any], Any]:
    rows = batches.rows[step - batches.start]
    return {name: tf.gather(tensor, rows) for name, tensor in batches.inputs.items()}, tf.gather(batches.labels, rows)
