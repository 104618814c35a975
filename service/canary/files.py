"""Where the evidence lies: beside the versions, a file of each process, so that it outlives any of them.

    models/<name>/.canary/<trial>.<process>.json     what a process has counted, by step; complete at each moment
    models/<name>/.canary/<trial>.<process>.life     locked as long as it lives; gone when it ended as it should
    models/<name>/.canary/<trial>.quality            what whoever acts has found of labels
    models/<name>/.canary/lock                       held by whoever acts

Services that share a folder add up what they have seen, and one of them acts.
"""

import fcntl
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import orjson
from pydantic import TypeAdapter, ValidationError

from service.canary.evidence import Evidence, total
from service.canary.measures import Labelled
from service.processes.leader import Leader

log = logging.getLogger("hornpipe.canary")

FOLDER = ".canary"
LOCK = "lock"

Steps = Mapping[str, Evidence]
_STEPS: TypeAdapter[dict[str, Evidence]] = TypeAdapter(dict[str, Evidence])


class Shelf:
    """One process's place in the folder of one trial. To make one raises OSError where nothing can be written."""

    def __init__(self, model: Path, trial: str) -> None:
        self._folder, self._trial = model / FOLDER, trial
        self._folder.mkdir(exist_ok=True)
        self._own = self._folder / f"{trial}.{uuid4().hex}.json"
        self._life = os.open(self._own.with_suffix(".life"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._life, fcntl.LOCK_EX)
        self._leader = Leader(self._folder / LOCK)
        self._written: Steps | None = None
        self._read: dict[str, tuple[tuple[int, int], Steps]] = {}

    def leads(self) -> bool:
        """Whether this process is the one that acts. Raises OSError."""
        return self._leader.leads()

    def write(self, steps: Steps) -> None:
        """All that this process has counted. Raises OSError."""
        if steps != self._written:
            _replace(self._own, orjson.dumps({step: each.model_dump() for step, each in steps.items()}, option=_KEYS))
            self._written = dict(steps)

    def read(self) -> dict[str, Evidence]:
        """By step, of all processes, those that are gone included. Raises OSError."""
        found: dict[str, list[Evidence]] = {}
        for path in self._folder.glob(f"{self._trial}.*.json"):
            for step, evidence in self._steps_in(path).items():
                found.setdefault(step, []).append(evidence)
        return {step: total(parts) for step, parts in found.items()}

    def deaths(self) -> int:
        """How many processes have died while it was on, and did not end as they should."""
        return sum(_is_dead(path) for path in self._folder.glob(f"{self._trial}.*.life"))

    def write_quality(self, found: Labelled | None) -> None:
        """Raises OSError."""
        _replace(self._quality, b"null" if found is None else found.model_dump_json().encode())

    def read_quality(self) -> Labelled | None:
        """None where nothing is known yet."""
        try:
            content = self._quality.read_bytes()
            return None if content == b"null" else Labelled.model_validate_json(content)
        except (FileNotFoundError, ValidationError):
            return None

    def sweep(self) -> None:
        """Remove what other trials have left."""
        for path in self._folder.iterdir():
            if path.name != LOCK and not path.name.startswith((f"{self._trial}.", f".{self._trial}.")):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """End as it should: what was counted stays for those who go on."""
        self._own.with_suffix(".life").unlink(missing_ok=True)
        os.close(self._life)
        self._leader.step_down()

    @property
    def _quality(self) -> Path:
        return self._folder / f"{self._trial}.quality"

    def _steps_in(self, path: Path) -> Steps:
        """A power cut may leave a file that is none; it counts for nothing."""
        try:
            facts = path.stat()
            stamp = facts.st_ino, facts.st_mtime_ns
            known = self._read.get(path.name)
            if known is None or known[0] != stamp:
                known = self._read[path.name] = stamp, _STEPS.validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            log.debug("%s counts for nothing: %s", path, error)
            return {}
        return known[1]


_KEYS = orjson.OPT_NON_STR_KEYS


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, for whoever reads it meanwhile."""
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(content)
    beside.replace(path)


def _is_dead(life: Path) -> bool:
    """Its lock went with it."""
    try:
        descriptor = os.open(life, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has just ended
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return life.exists()
    finally:
        os.close(descriptor)
