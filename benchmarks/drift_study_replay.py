"""Streams through a real service, over HTTP, in the order of their hours; what it has counted after each hour.

A window of any length is then a difference of counters, as in Prometheus, only that time goes by some ten thousand
times as fast.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks import child
from benchmarks.child import BenchFailed, Start
from benchmarks.drift_study_data import POSITIVE, Stream
from benchmarks.requests import Request
from benchmarks.servers.table import HORNPIPE, Setting
from benchmarks.visit import free_port

ROOT = Path(__file__).resolve().parents[1]
SERIES = re.compile(rb'hornpipe_(input|output)_bin_total\{.*?(?:feature|output)="([^"]*)",bin="[^"]*"\} ')
PATH = "/predict"

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Replayed:
    """Of a stream: the probability of being late by row, float32 [n]; rows by hour and bin, [hours, bins], of each
    input and output."""

    scores: NDArray[np.float32]
    inputs: Mapping[str, Counts]
    outputs: Mapping[str, Counts]

    @property
    def all(self) -> dict[str, Counts]:
        return {**self.inputs, **self.outputs}


@dataclass(frozen=True)
class Weighed:
    """The service's own processes: CPU seconds of all requests and scrapes, rows, scrapes, and memory afterwards."""

    seconds: float
    rows: int
    scrapes: int
    resident_mb: float
    page_bytes: int


class Client:
    """One connection to the service, kept."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str) -> bytes:
        return self._send("GET", path)

    def predict(self, instances: list[dict[str, Any]]) -> list[float]:
        """The probability of being late, by instance."""
        answer = orjson.loads(self._send("POST", PATH, orjson.dumps({"instances": instances})))
        return [each["probabilities"][POSITIVE] for each in answer["predictions"]]

    def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"content-type": "application/json"} if body else {}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise BenchFailed(f"{path} answers {response.status}: {content[:500].decode(errors='replace')}")
        return content


@dataclass(frozen=True)
class Outcome:
    """By stream; what it took; and, of everything that was asked, what /metrics has counted in the end, [bins] by name,
    and what GET /models/{name}/drift says of the same."""

    streams: dict[str, Replayed]
    weighed: Weighed
    counted: dict[str, Counts]
    endpoint: Any


def replay(streams: Iterable[Stream], models: Path, name: str, work: Path) -> Outcome:
    """Raises BenchFailed."""
    streams = list(streams)
    setting = Setting(free_port(), models, work, work, "")
    first = Request(PATH, "application/json", orjson.dumps({"instances": _instances(streams[0], 0, 1)}), bool)
    command, environment = HORNPIPE.command(setting), HORNPIPE.environment(setting)
    start = Start(HORNPIPE.name, command, environment, "/readyz", first, setting.port, ROOT, work / "service.log")
    with child.running(start) as process, Client(process.port) as client:
        before = process.family.cpu_seconds()
        found = {stream.name: _replay(stream, client) for stream in streams}
        seconds = process.family.cpu_seconds() - before
        page = client.get("/metrics")
        hours = sum(len(np.unique(stream.hours)) for stream in streams)
        weighed = Weighed(seconds, sum(len(s.rows) for s in streams), hours, process.family.resident_mb(), len(page))
        series, values = _counters(page)
        counted = {**_split(series, "input", values[None]), **_split(series, "output", values[None])}
        endpoint = orjson.loads(client.get(f"/models/{name}/drift?window=24h"))
        return Outcome(found, weighed, {of: each[0] for of, each in counted.items()}, endpoint)


def _replay(stream: Stream, client: Client) -> Replayed:
    hours, firsts, sizes = np.unique(stream.hours, return_index=True, return_counts=True)
    scores = np.empty(len(stream.rows), np.float32)
    series, before = _counters(client.get("/metrics"))
    counts = np.zeros((stream.days * 24, len(before)), np.int64)
    for hour, first, size in zip(hours.tolist(), firsts.tolist(), sizes.tolist(), strict=True):
        scores[first : first + size] = client.predict(_instances(stream, first, size))
        _, after = _counters(client.get("/metrics"))
        counts[hour], before = after - before, after
    found = Replayed(scores, _split(series, "input", counts), _split(series, "output", counts))
    for name, each in found.all.items():
        if (each.sum(axis=1)[hours] != sizes).any():
            raise BenchFailed(f"{name} of {stream.name} has not been counted once a row")
    return found


def _instances(stream: Stream, first: int, size: int) -> list[dict[str, Any]]:
    """What is not known is left out."""
    rows = stream.features.slice(first, size).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _counters(page: bytes) -> tuple[list[tuple[str, str]], Counts]:
    """Whether of an input or an output, and of which, by series; and the values, [series]."""
    found = [match for line in page.splitlines() if (match := SERIES.match(line)) is not None]
    values = np.array([int(float(match.string[match.end() :])) for match in found], np.int64)
    return [(match[1].decode(), match[2].decode()) for match in found], values


def _split(series: list[tuple[str, str]], kind: str, counts: Counts) -> dict[str, Counts]:
    names = dict.fromkeys(name for of, name in series if of == kind)
    return {name: counts[:, [each == (kind, name) for each in series]] for name in names}


def save(folder: Path, found: Mapping[str, Replayed]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stream, each in found.items():
        counts = {f"{kind} {name}": of for kind in ("inputs", "outputs") for name, of in getattr(each, kind).items()}
        np.savez_compressed(folder / f"{stream}.npz", scores=each.scores, **counts)


def load(folder: Path) -> dict[str, Replayed]:
    return {path.stem: _loaded(path) for path in folder.glob("*.npz")}


def _loaded(path: Path) -> Replayed:
    with np.load(path) as arrays:
        kinds = {
            kind: {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)}
            for kind in ("inputs ", "outputs ")
        }
        return Replayed(arrays["scores"], kinds["inputs "], kinds["outputs "])
