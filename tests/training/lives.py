"""Train a small network in process after process, each ended by a signal at a random moment, until one finishes.

python -m tests.training.lives reads lines of FOLDER SEED COUNT SIGNAL,...: TensorFlow is imported once, and every life
is a fork of that process, which itself runs nothing. FOLDER gets the run, and `end.npz` with the weights and the record
of the end. A line of JSON says how every life ended: its exit code, or minus the number of the signal that killed it;
how much processor time it took after the signal, which is the same on a busy machine; and what it said.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np

from service.counting.process import usage
from tests.training import small
from training import fit
from training.errors import Interrupted
from training.loop.run import Run

HELD_AT = 1000  # of some 1,200 steps


class Shout(small.Heard):
    """Says when training has begun, and waits near its end until the gate is closed: a signal that comes late, since
    whoever sends it was held up, finds it alive."""

    def __init__(self, pipe: int, gate: int | None) -> None:
        super().__init__()
        self._pipe, self._gate = pipe, gate

    def on_steps(self, count: int, loss: float) -> None:
        super().on_steps(count, loss)
        if len(self.steps) == 2:
            os.write(self._pipe, b"begun\n")
        if self._gate is not None and len(self.steps) > 2 and sum(self.steps) >= HELD_AT:
            os.read(self._gate, 1)


def live(folder: Path, pipe: int, gate: int | None, checkpoint_seconds: float) -> None:
    """The whole of one process; raises Interrupted."""
    config = small.settings(
        epochs=12,
        learning_rate=3e-3,
        schedule="plateau",
        plateau_patience=1,
        patience=100,
        evaluations_per_epoch=2,
        checkpoint_seconds=checkpoint_seconds,
        averaging=0.9,
        warmup=0.05,
    )
    data = small.prepared(count=6400, block=1700)
    model = small.network(dropout=0.2, normalised=True)
    with Run.open(folder, config) as run:
        outcome = fit.fit(model, data, config, run, Shout(pipe, gate))
    arrays = {f"w{i}": value for i, value in enumerate(model.get_weights())}
    np.savez(folder / "end.npz", record=np.array(without_clock(outcome.record)), **arrays)


def without_clock(record: fit.Record) -> str:
    """The record as JSON, but for what the clock says."""
    probes = tuple(probe.model_copy(update={"input_wait": 0.0}) for probe in record.probes)
    return record.model_copy(update={"probes": probes}).model_dump_json()


@dataclass(frozen=True)
class Ending:
    """How a life ended."""

    code: int
    seconds: float = 0.0
    said: str = ""


@dataclass(frozen=True)
class Moment:
    """When a signal is sent: so many seconds after the start, or after the first steps."""

    seconds: float
    begun: bool

    @staticmethod
    def random(chance: random.Random, number: int) -> "Moment":
        """Most of them while it trains, some while it starts."""
        begun = number % 4 != 3
        return Moment(chance.uniform(0.0, 0.25 if begun else 2.0), begun)


def life(folder: Path, signal_number: int, moment: Moment | None, checkpoint_seconds: float) -> Ending:
    """One process, and the signal."""
    reader, writer = os.pipe()
    gate, gatekeeper = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gatekeeper)
        os._exit(_to_the_end(folder, writer, None if moment is None else gate, checkpoint_seconds))
    os.close(writer)
    os.close(gate)
    before = 0.0
    if moment is not None:
        if moment.begun:
            select.select([reader], [], [])
        time.sleep(moment.seconds)  # a random moment is one of the clock
        before = usage(pid).cpu
        os.kill(pid, signal_number)
    os.close(gatekeeper)
    _, status, used = os.wait4(pid, 0)
    seconds = used.ru_utime + used.ru_stime - before
    with os.fdopen(reader) as said:
        return Ending(os.waitstatus_to_exitcode(status), seconds, said.read().removeprefix("begun\n"))


def _to_the_end(folder: Path, pipe: int, gate: int | None, checkpoint_seconds: float) -> int:
    try:
        live(folder, pipe, gate, checkpoint_seconds)
    except Interrupted as interrupted:
        os.write(pipe, str(interrupted).encode())
        return 3
    except KeyboardInterrupt:  # before training listens to signals: not into the loop that this is a fork of
        return 128 + signal.SIGINT
    except Exception:
        os.write(pipe, traceback.format_exc().encode())
        return 1
    return 0


def lives(folder: str, seed: str, count: str, names: str) -> list[Ending]:
    """Some with a signal, one of the names after the other, then one to the end."""
    chance, numbers = random.Random(int(seed)), cycle(int(signal.Signals[name]) for name in names.split(","))
    checkpoint_seconds = 1e-9 if int(count) else 30.0  # at every call, so that many signals hit the writing of one
    moments = [Moment.random(chance, i) for i in range(int(count))]
    return [life(Path(folder), next(numbers), moment, checkpoint_seconds) for moment in [*moments, None]]


def main() -> None:
    for line in sys.stdin:
        print(json.dumps([asdict(ending) for ending in lives(*line.split())]), flush=True)


if __name__ == "__main__":
    main()
