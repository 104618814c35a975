"""The prediction log: what was asked and answered, for the share of the requests that is kept.

The event loop only appends references to a list; a thread makes lines of them and writes those (segments.py), several
times a second, and another one has them on the disk each second. What there is no room for, in the list or on the disk,
is dropped and counted: no request waits for the log, or fails because of it.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.manifest import TensorsOutput
from contract.tensors import plain
from service.counting.instruments import LogResult
from service.http.call import Call
from service.inference.work import Result
from service.predictions import rows
from service.predictions.redaction import Redaction
from service.predictions.segments import Line, Segments
from service.settings import Settings
from service.versions.loaded import LoadedModel

log = logging.getLogger("hornpipe.predictions")

Tensors = Mapping[str, NDArray[Any]]

# What waits to be written: requests, and bytes of their bodies; one that is larger than that may still wait alone.
MOST_WAITING = 10_000
MOST_WAITING_BYTES = 16 * 2**20
GATHER_SECONDS = 0.1
SYNC_SECONDS = 1.0
TIDY_SECONDS = 60.0
SLICE = 256

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
_ALL = 2**32


class Entry(NamedTuple):
    """A request that was answered at a time, in Unix seconds: rows as JSON had them, tensors, or neither where they
    were made while it ran. `size` is that of its body."""

    id: str
    time: float
    model: LoadedModel
    role: str
    given: Sequence[Any] | None
    tensors: Tensors | None
    result: Result
    size: int


class PredictionLog:
    """Written by this process. `note` is for the event loop; `counts` are of rows by model and what became of them."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        salt = settings.predictions_salt
        self._redaction = Redaction(
            settings.predictions_redact, settings.predictions_hash, salt.get_secret_value() if salt else ""
        )
        self._below = int(settings.predictions_share * _ALL)
        seconds = settings.predictions_days * 86_400
        self._segments = Segments(folder, settings.predictions_bytes, seconds, settings.workers)
        self._abouts: dict[str, bytes] = {}
        self._waiting: deque[Entry] = deque()
        self._put = self._taken = 0  # bytes; each is written by one thread alone
        self._dropped: Counter[tuple[str, LogResult]] = Counter()
        self._done: deque[tuple[str, LogResult, int]] = deque()
        self._something = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="predictions", daemon=True)
        self._syncing = threading.Thread(target=self._sync_on, name="predictions-sync", daemon=True)
        self._end = threading.Event()

    def start(self) -> None:
        self._thread.start()
        self._syncing.start()

    def note(
        self,
        model: LoadedModel,
        call: Call,
        result: Result,
        given: Sequence[Any] | None = None,
        tensors: Tensors | None = None,
    ) -> None:
        """Keep a request that was answered, if it is one of the share: the same ids everywhere, and those of a smaller
        share are among those of a larger one. What is given here must not change afterwards."""
        if crc32(call.id.encode()) >= self._below:
            return
        size = len(call.request.body)
        waits = self._put - self._taken
        if len(self._waiting) >= MOST_WAITING or (waits and waits + size > MOST_WAITING_BYTES):
            self._dropped[model.name, "queue_full"] += result.count
            return
        self._put += size
        role = model.roles[0] if model.roles else "production"
        self._waiting.append(Entry(call.id, time(), model, role, given, tensors, result, size))
        if not self._something.is_set():
            self._something.set()

    def counted(self) -> list[tuple[str, LogResult, int]]:
        """Rows by model and result since this was last asked; for the event loop."""
        dropped, self._dropped = self._dropped, Counter()
        done = [self._done.popleft() for _ in range(len(self._done))]
        return [*done, *((model, result, count) for (model, result), count in dropped.items())]

    def close(self) -> None:
        """Write what waits; after that nothing is written any more."""
        self._end.set()
        self._something.set()
        for thread in (self._thread, self._syncing):
            thread.join()
        self._segments.close()

    # On threads

    def _write_on(self) -> None:
        tidied = monotonic()
        while not self._end.is_set():
            if self._something.wait(TIDY_SECONDS):
                self._end.wait(GATHER_SECONDS)
            self._something.clear()
            self._safely(self._write)
            if (now := monotonic()) - tidied >= TIDY_SECONDS:
                self._safely(self._segments.tidy)
                tidied = now
        self._safely(self._write)

    def _sync_on(self) -> None:
        """Beside the other thread: what comes while the disk is slow is written all the same."""
        while not self._end.wait(SYNC_SECONDS):
            self._safely(self._segments.sync)

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # a defect of ours must not end the log
            log.error("the prediction log has failed", exc_info=error)

    def _write(self) -> None:
        """All that waits now, a slice at a time: not all of it need be in memory twice."""
        for start in range(len(self._waiting), 0, -SLICE):
            entries = [self._waiting.popleft() for _ in range(min(SLICE, start))]
            lines = [(entry, line) for entry in entries if (line := self._line(entry)) is not None]
            written = self._segments.append([line for _, line in lines])
            for i, (entry, _) in enumerate(lines):
                self._count(entry, "written" if i < written else "disk")
            self._taken += sum(entry.size for entry in entries)

    def _line(self, entry: Entry) -> Line | None:
        """None of what cannot be kept, which is counted."""
        try:
            line = Line(self._about(entry.model), self._text(entry))
        except Exception as error:  # a defect of ours must cost no other line
            log.error("request %s could not be logged", entry.id, exc_info=error)
            self._count(entry, "failed")
            return None
        if self._segments.fits(line):
            return line
        self._count(entry, "too_long")
        return None

    def _text(self, entry: Entry) -> bytes:
        tensors = entry.model.encoder.tensor_features
        only = tensors[0].name if len(tensors) == 1 else None
        line = {
            "id": entry.id,
            "time": round(entry.time, 6),
            "model": entry.model.name,
            "version": entry.model.version,
            "role": entry.role,
            "rows": self._redaction.apply(_rows(entry), only),
            "outputs": _outputs(entry),
        }
        return orjson.dumps(line, option=_OPTIONS)

    def _about(self, model: LoadedModel) -> bytes:
        if model.sha256 not in self._abouts:
            output = model.manifest.output.model_dump(mode="json")
            about = {"model": model.name, "version": model.version, "sha256": model.sha256, "output": output}
            self._abouts[model.sha256] = orjson.dumps({"about": about}, option=_OPTIONS)
        return self._abouts[model.sha256]

    def _count(self, entry: Entry, result: LogResult) -> None:
        self._done.append((entry.model.name, result, entry.result.count))


def _rows(entry: Entry) -> Sequence[Any]:
    """As `POST /predict` takes them."""
    if entry.given is not None:
        return entry.given
    if entry.tensors is not None:
        return rows.of_tensors(entry.model.encoder, entry.tensors)
    encoded = entry.result.encoded
    return rows.of_encoded(entry.model.encoder, encoded) if encoded is not None else []


def _outputs(entry: Entry) -> dict[str, Any]:
    """By name, a list of n; of an imported model as its rows would have such values."""
    output, found = entry.model.manifest.output, entry.result.outputs
    if isinstance(output, TensorsOutput):
        return {spec.name: [plain(row, spec.dtype) for row in found[spec.name]] for spec in output.tensors}
    return {output.name: np.ascontiguousarray(found[output.name])}
