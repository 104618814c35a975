"""The windows of every version in a file, so that they outlive the process: whole or not at all."""

import logging
import os
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from service.counting.store import Key
from service.drift.history import WINDOWS, History, Sample, Window
from service.processes.leader import Leader

log = logging.getLogger("hornpipe.windows")

NAME = "windows.json"

Number = Annotated[int, Field(ge=0, lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class StoredSample(_Part):
    """Everything counted until then, in Unix seconds."""

    time: FiniteFloat
    total: tuple[Number, ...]

    def sample(self) -> Sample:
        return Sample(self.time, np.array(self.total, np.int64))


class StoredHistory(_Part):
    """One version's, of which `layout` says how its bins lie."""

    model: str
    sha256: str
    layout: int
    last: StoredSample
    raw: tuple[Number, ...]
    samples: dict[Window, tuple[StoredSample, ...]]

    @model_validator(mode="after")
    def _fits(self) -> "StoredHistory":
        samples = [self.last, *(sample for each in self.samples.values() for sample in each)]
        if any(len(sample.total) != len(self.raw) for sample in samples) or not all(map(self.samples.get, WINDOWS)):
            raise ValueError("every window must have a sample, and every sample all bins")
        return self

    @property
    def key(self) -> Key:
        return Key("version", self.model, self.sha256)

    def history(self) -> History:
        samples = {window: [each.sample() for each in self.samples[window]] for window in WINDOWS}
        return History(self.last.sample(), np.array(self.raw, np.int64), samples)


class Snapshot(_Part):
    """`run` is the one whose counters `raw` are."""

    format: Literal[1] = 1
    run: str
    versions: tuple[StoredHistory, ...]


class WindowsFile:
    """In a folder that several processes may share: the first that writes is the only one, as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._leader = Leader(self._path.with_suffix(".lock"))
        self._writing = Lock()  # what is cancelled while it writes, writes on
        self._complained = False

    def read(self) -> Snapshot | None:
        """None where there is none, or none that can be read: then the windows begin anew."""
        try:
            return Snapshot.model_validate(orjson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            why = f"{error.error_count()} problems" if isinstance(error, ValidationError) else error
            log.warning("%s cannot be read, so the windows of drift begin anew: %s", self._path, why)
            return None

    def write(self, content: bytes) -> None:
        """A snapshot as JSON. What goes wrong is logged, once: the windows go on in memory."""
        try:
            with self._writing:
                if self._leader.leads():
                    self._replace(content)
                    self._complained = False
        except OSError as error:
            if not self._complained:
                log.error("the windows of drift are not kept: %s", error)
            self._complained = True

    def close(self) -> None:
        """Let another process write."""
        self._leader.step_down()

    def _replace(self, content: bytes) -> None:
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def packed(run: str, histories: list[tuple[Key, int, History]]) -> bytes:
    """A `Snapshot` as JSON, of keys, layouts and histories."""
    versions = [
        {
            "model": key.model,
            "sha256": key.sha256,
            "layout": layout,
            "last": history.last._asdict(),
            "raw": history.raw,
            "samples": {window: [each._asdict() for each in history.samples[window]] for window in WINDOWS},
        }
        for key, layout, history in histories
    ]
    return orjson.dumps({"format": 1, "run": run, "versions": versions}, option=orjson.OPT_SERIALIZE_NUMPY)
