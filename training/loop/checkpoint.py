"""Checkpoints: everything that the rest of a run depends on, in one file that is there whole or not at all.

    checkpoints/last.npz          the newest state, to go on from
    checkpoints/good.npz          the state at the last evaluation, to go back to when the loss is no longer finite
    checkpoints/best-<step>.npz   the weights of the best evaluation so far

Reader and writer stand side by side. A file is an .npz of numbered arrays and one of JSON, `state`.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from contract.part import Part
from training.diagnosis.signals import Record
from training.errors import TrainingError

STATE = "state"
LAST, GOOD = "last.npz", "good.npz"

Arrays = list[NDArray[Any]]


class LossSum(Part):
    """Losses of steps that are not yet in the record as a mean: those since the last point, or the last evaluation."""

    total: float = 0.0
    count: int = 0

    def plus(self, losses: Sequence[float]) -> "LossSum":
        total = self.total
        for loss in losses:  # in order: another one could round differently after a resumption
            total += loss
        return LossSum(total=total, count=self.count + len(losses))

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0


class Position(Part):
    """Where a run is, besides its variables. What follows from these is not kept: the row a step trains on
    (training/loop/course.py), the plateau's factor and the early stopping's count (from the record's evaluations)."""

    step: int = 0
    seconds: float = 0.0
    learning_rate: float
    since_point: LossSum = LossSum()
    since_evaluation: LossSum = LossSum()
    record: Record = Record()


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint files of one run."""

    folder: Path

    def save(self, arrays: Arrays, position: Position, good: bool) -> None:
        """Replace `last`, and `good` where the state is one to go back to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (GOOD if good else LAST)
        _write(path, arrays, position.model_dump_json())
        if good:
            # Good first: a run killed between the two goes on from the older last, and writes the same good again.
            beside = self.folder / f".{LAST}.link"
            beside.unlink(missing_ok=True)
            os.link(path, beside)
            beside.replace(self.folder / LAST)
            _sync(self.folder)
        self._drop_worse(position.record)

    def load(self, good: bool = False) -> tuple[Arrays, Position] | None:
        """The state to go on from, or to go back to; None before the first. Raises TrainingError for a broken file."""
        path = self.folder / (GOOD if good else LAST)
        if not path.exists():
            return None
        arrays, state = _read(path)
        try:
            return arrays, Position.model_validate_json(state)
        except ValidationError as error:
            raise TrainingError(f"{path} is of another Hornpipe; --fresh starts a new run") from error

    def save_best(self, step: int, weights: Arrays) -> None:
        """Those of before stay until a checkpoint whose record knows of this one is safe."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self._best(step), weights, "")

    def load_best(self, record: Record) -> Arrays:
        """The weights of the best evaluation on record. Raises TrainingError when they are not there."""
        return _read(self._best(best_step(record)))[0]

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step}.npz"

    def _drop_worse(self, record: Record) -> None:
        if record.evaluations:
            for path in self.folder.glob("best-*.npz"):
                if path != self._best(best_step(record)):
                    path.unlink()


def best_step(record: Record) -> int:
    """The step of the best evaluation; there is at least one."""
    return next(each.step for each in reversed(record.evaluations) if each.best)


def _write(path: Path, arrays: Arrays, state: str) -> None:
    named: dict[str, Any] = {f"{i:05}": array for i, array in enumerate(arrays)}
    named[STATE] = np.frombuffer(state.encode(), np.uint8)
    beside = path.with_name(f".{path.name}")  # one process at a time: the run is locked
    with beside.open("wb") as file:
        np.savez(file, **named)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    _sync(path.parent)


def _read(path: Path) -> tuple[Arrays, bytes]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            names = sorted(set(file.files) - {STATE})
            return [file[name] for name in names], file[STATE].tobytes()
    except (OSError, EOFError, BadZipFile, KeyError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); --fresh starts a new run") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
