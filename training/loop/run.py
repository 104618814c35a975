"""The folder of a training run: its config, what was recorded, and the checkpoints to go on from.

    runs/<name>/<UTC time>-<digest of the config>/config.json, record.json, status.json, checkpoints/

The same command goes on with the run that it began: the newest unfinished one of exactly its config.
"""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import IO, Literal

from pydantic import AwareDatetime, ValidationError

from contract import bundle
from contract.bundle import Bundle, replace_file
from contract.manifest import Manifest
from contract.part import Part
from training.diagnosis.signals import Record
from training.errors import DataChanged, RunBusy, TrainingError
from training.loop.checkpoint import Checkpoints
from training.sections import TrainingConfig

CONFIG, RECORD, STATUS, LOCK, CHECKPOINTS = "config.json", "record.json", "status.json", ".lock", "checkpoints"

State = Literal["training", "trained", "published", "diverged"]


class Intent(Part):
    """Which version a run is about to become: its number, and the moment in its manifest, which no other has."""

    version: int
    created: AwareDatetime


class Status(Part):
    """How far a run is. `data` is the fingerprint of its data, `seconds` the training time of all its processes.

    `intent` is written down before a version is published, `bundle` after: a run that is killed in between finds, by
    what is there, whether it has published already.
    """

    state: State = "training"
    data: str | None = None
    seconds: float = 0.0
    intent: Intent | None = None
    bundle: str | None = None

    @property
    def unfinished(self) -> bool:
        """Whether the same command goes on with it."""
        return self.state in ("training", "trained")


@dataclass(frozen=True)
class Reading:
    """What a run's folder says, for those who only look at it."""

    path: Path
    config: TrainingConfig
    record: Record
    status: Status


class Run:
    """A run that is this process's alone, until it is closed or the process ends."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self.checkpoints = Checkpoints(path / CHECKPOINTS)
        self._lock = lock
        self.status = _status(path)

    @staticmethod
    def open(root: Path, config: TrainingConfig, fresh: bool = False) -> "Run":
        """The newest unfinished run of exactly this config, or, with `fresh` or where there is none, a new one.

        Raises RunBusy while another process has it.
        """
        folder, digest = root / config.name, digest_of(config)
        unfinished = [] if fresh else [p for p in _runs(folder) if p.name.endswith(digest) and _status(p).unfinished]
        if not unfinished:
            return _new(folder, config, digest)
        return Run(unfinished[-1], _locked(unfinished[-1]))

    @staticmethod
    def read(path: Path) -> Reading:
        """Look at a run, also while it trains, or at the newest one in a folder of runs. Raises TrainingError."""
        path = path if (path / CONFIG).exists() else next(reversed(_runs(path)), path)
        try:
            config = TrainingConfig.model_validate_json((path / CONFIG).read_bytes())
            record = path / RECORD
            recorded = Record.model_validate_json(record.read_bytes()) if record.exists() else Record()
        except OSError as error:
            raise TrainingError(f"{path} is not the folder of a run: {error.strerror}: {error.filename}") from error
        except ValidationError as error:
            raise TrainingError(f"{path} is of another Hornpipe: {error.errors()[0]['msg']}") from error
        return Reading(path, config, recorded, _status(path))

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have it."""
        self._lock.close()

    def is_on(self, fingerprint: str) -> None:
        """Remember which data the run is on. Raises DataChanged where it began with other data."""
        if self.status.data not in (None, fingerprint):
            raise DataChanged(
                f"the data have changed since {self.path} began (fingerprint {str(self.status.data)[:12]}, "
                f"now {fingerprint[:12]}): bring the old data back, or start a new run with --fresh"
            )
        if self.status.data is None:
            self._update(data=fingerprint)

    def record(self, record: Record) -> None:
        """What was recorded so far, for those who look on."""
        replace_file(self.path / RECORD, record.model_dump_json().encode())

    def trained(self, record: Record, seconds: float) -> None:
        """Training is over; the best weights are among the checkpoints."""
        self.record(record)
        self._update(state="diverged" if record.stopped == "diverged" else "trained", seconds=seconds)

    def publishing(self, manifest: Manifest) -> None:
        """Its model is about to be a version, which nobody sees yet."""
        self._update(intent=Intent(version=manifest.version, created=manifest.created))

    def made(self, models: Path, name: str) -> Bundle | None:
        """The version that its model is already, also where it was killed before it could say so."""
        return _made(self.status, models, name)

    def published(self, path: Path) -> None:
        """Its model is a version now: the same command begins a new run."""
        self._update(state="published", bundle=str(path))

    def _update(self, **changes: object) -> None:
        self.status = self.status.model_copy(update=changes)
        replace_file(self.path / STATUS, self.status.model_dump_json(indent=1).encode())


def made_by(folder: Path, models: Path, name: str) -> Bundle | None:
    """The version that a run in this folder has published, if one has and it is still there."""
    found = (_made(_status(path), models, name) for path in reversed(_runs(folder)))
    return next(filter(None, found), None)


def _made(status: Status, models: Path, name: str) -> Bundle | None:
    intent = status.intent
    if intent is None or intent.version not in bundle.versions(models, name):
        return None
    there = bundle.read_version(models, name, intent.version)
    return there if there.manifest.created == intent.created else None


def digest_of(config: TrainingConfig) -> str:
    """Twelve hexadecimal digits that are those of this config alone."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]


def _new(folder: Path, config: TrainingConfig, digest: str) -> Run:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for number in count():
        # Runs of one second stay in the order in which they began.
        path = folder / f"{moment}.{number}Z-{digest}"
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    lock = _locked(path)
    replace_file(path / CONFIG, config.model_dump_json(indent=1).encode())
    return Run(path, lock)


def _runs(folder: Path) -> list[Path]:
    """Oldest first. A folder without a config is of a process that was killed while making it."""
    return sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))


def _status(path: Path) -> Status:
    try:
        return Status.model_validate_json((path / STATUS).read_bytes())
    except FileNotFoundError:
        return Status()
    except ValidationError as error:
        raise TrainingError(f"{path / STATUS} is of another Hornpipe: {error.errors()[0]['msg']}") from error


def _locked(path: Path) -> IO[str]:
    """The kernel frees it when the process ends, however it ends."""
    file = (path / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise RunBusy(
            f"process {owner} is training {path}: wait for it or stop it (it saves what it has), "
            "or start a run beside it with --fresh"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
