"""What a job says of how far it is, by a clock of the test's own: from its start, and going on from a checkpoint."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from contract.job import Progress
from tests.training.test_tracking import write_config, write_shop
from training import config, job
from training.diagnosis.signals import Evaluation, Record
from training.job import Event, JobProgress, Teller
from training.listener import Listener
from training.loop.run import Run
from training.sections import TrainingConfig

STEPS, EPOCHS = 400, 4


class Clock:
    """Both clocks of the module."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now - 900_000

    def time(self) -> float:
        return self.now


class Told:
    """A job's progress, and all that it has told."""

    def __init__(self, asked: TrainingConfig) -> None:
        self._file = io.StringIO()
        self.progress = JobProgress(Console(quiet=True), Teller(self._file), asked)

    @property
    def all(self) -> list[Progress]:
        events = [Event.model_validate_json(line) for line in self._file.getvalue().splitlines()]
        return [event.progress for event in events if event.progress is not None]

    @property
    def last(self) -> Progress:
        return self.all[-1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(job, "time", found)
    return found


@pytest.fixture
def asked(tmp_path: Path) -> TrainingConfig:
    write_shop(tmp_path / "shop.csv")
    return config.load(write_config(tmp_path), [f"training.epochs={EPOCHS}"])


@pytest.fixture
def told(asked: TrainingConfig) -> Told:
    return Told(asked)


@contextmanager
def training(told: Told) -> Iterator[Listener]:
    with told.progress.training(STEPS) as listener:
        yield listener


def evaluation(step: int, monitor: float, *, best: bool) -> Evaluation:
    numbers = {"train_loss": 0.5, "validation_loss": 0.5, "train_monitor": 0.9, "learning_rate": 0.1}
    return Evaluation(step=step, epoch=step / 100, monitor=monitor, best=best, **numbers)


def test_epoch_loss_and_time_left(told: Told, clock: Clock) -> None:
    with training(told) as listener:
        listener.on_steps(10, 0.9)
        assert told.last == Progress(
            stage="training", epoch=1, epochs=EPOCHS, loss=0.9, eta=None, metric="roc_auc", best=None, at=clock.now
        )
        clock.now += 30  # tracing
        for _ in range(19):
            clock.now += 2
            listener.on_steps(10, 0.7)
        assert (told.last.epoch, told.last.loss, told.last.at) == (3, 0.7, clock.now)
        assert told.last.eta == pytest.approx(200 * 2 / 10)  # 200 steps are left, each of which takes 0.2 s
        clock.now += 40
        listener.on_steps(200, 0.6)
        assert (told.last.epoch, told.last.eta) == (EPOCHS, pytest.approx(0))


def test_it_is_told_once_a_second_at_most(told: Told, clock: Clock) -> None:
    with training(told) as listener:
        before = len(told.all)
        for _ in range(100):
            clock.now += 0.1
            listener.on_steps(1, 0.5)
    assert 9 <= len(told.all) - before <= 11


def test_the_time_left_after_a_checkpoint_is_by_what_was_done_since(told: Told, clock: Clock) -> None:
    with training(told) as listener:
        listener.on_steps(300, 0.6)  # as a resumed run begins
        assert (told.last.epoch, told.last.eta) == (4, None)
        clock.now += 30
        listener.on_steps(1, 0.6)  # the first step is traced before it runs
        assert told.last.eta is None
        clock.now += 5
        listener.on_steps(9, 0.6)
        assert told.last.eta == pytest.approx(90 * 5 / 9)
        clock.now += 5
        listener.on_steps(-10, 0.6)  # back to the last good checkpoint
        assert (told.last.epoch, told.last.eta) == (4, None)


def test_a_loss_that_is_no_number_is_unknown(told: Told) -> None:
    with training(told) as listener:
        listener.on_steps(10, float("nan"))
    assert told.last.loss is None


def test_the_best_so_far_is_told_in_every_later_stage(told: Told, clock: Clock) -> None:
    with training(told) as listener:
        listener.on_steps(100, 0.6)
        listener.on_evaluation(evaluation(100, 0.7, best=True))
        listener.on_evaluation(evaluation(200, 0.6, best=False))
        clock.now += 2
        listener.on_steps(100, 0.5)
    with told.progress.stage("exporting"):
        pass

    assert told.all[-2].best == 0.7
    exporting = Progress(stage="exporting", epoch=3, epochs=EPOCHS, metric="roc_auc", best=0.7, at=clock.now)
    assert told.last == exporting


def test_the_best_of_an_earlier_attempt_is_known(told: Told, asked: TrainingConfig, tmp_path: Path) -> None:
    evaluations = (evaluation(100, 0.7, best=True), evaluation(200, 0.8, best=True), evaluation(300, 0.75, best=False))
    with Run.open(tmp_path / "runs", asked) as run:
        run.record(Record(evaluations=evaluations))
        with training(told) as listener:
            told.progress.attending(run)
            listener.on_steps(300, 0.6)
    assert told.last.best == 0.8
