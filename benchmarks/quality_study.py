"""Flights, asked about two hours before they leave, and what became of them, told when they have arrived: how well the
service knows how well it predicts. Real HTTP and a real prediction log; only the clock is moved.

    apt-get install faketime
    hornpipe train examples/flights/train.toml --promote
    python -m benchmarks.quality_study --models models

At midnight (UTC) the service is asked what it thinks of the day, of which it knows only a part by then; in the end it
is asked about all days. libfaketime moves the service's clock, and nothing else's, by an hour at a time: predictions
and labels are stamped with the time of the flights. Writes a JSON file that benchmarks/quality_report.py draws.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contract import bundle, routing
from contract.estimate_counts import counts_of, estimated_of_counts
from contract.manifest import Manifest
from examples.flights.prepare import features, source_folder
from tests.ports import free_port

LIBRARY = "faketime/libfaketimeMT.so.1"
NAME = "flights"
AHEAD = timedelta(hours=2)
TAXI = timedelta(minutes=25)  # before and after the time in the air, which is all that the data have
HOUR = timedelta(hours=1)
OUT = Path("build/quality-study/flights.json")

Row = dict[str, Any]


class Flight(NamedTuple):
    """When it is asked about, when it has arrived, what is known of it before, and what came of it."""

    asked: datetime
    arrived: datetime
    row: Row
    outcome: str


def flights(manifest: Manifest, since: date, until: date) -> list[Flight]:
    """In the order in which they are asked about."""
    table = features(source_folder(), more=("time_hour", "minute", "dep_delay", "air_time"))
    day = pc.cast(table["date"], pa.date32())
    table = table.filter(pc.and_(pc.greater_equal(day, pa.scalar(since)), pc.less_equal(day, pa.scalar(until))))
    names = [feature.name for feature in manifest.features]
    found = [_flight(each, names) for each in table.to_pylist()]
    return sorted(found, key=lambda flight: flight.asked)


def _flight(facts: Row, names: list[str]) -> Flight:
    leaves = facts["time_hour"].replace(tzinfo=UTC) + timedelta(minutes=facts["minute"])
    took = timedelta(minutes=facts["dep_delay"] + facts["air_time"]) + TAXI
    row = {name: facts[name] for name in names if facts[name] is not None}
    return Flight(leaves - AHEAD, leaves + took, row, facts["outcome"])


class Clock:
    """The time of a service that is started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "now"

    def environment(self) -> dict[str, str]:
        """Raises SystemExit where libfaketime is not installed."""
        libraries = sorted(Path("/usr/lib").glob(f"*/{LIBRARY}"))
        if not libraries:
            raise SystemExit("libfaketime is missing: apt-get install faketime")
        return {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TZ": "UTC",
        }

    def set(self, now: datetime) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(f"{now:%Y-%m-%d %H:%M:%S}\n")
        beside.replace(self._path)


@contextmanager
def service(models: Path, folder: Path, clock: Clock) -> Iterator[httpx.Client]:
    """A service of its own process, and a client of it."""
    port = free_port()
    with (folder / "log").open("wb") as log:
        settings = {
            "MODELS_DIR": models,
            "MODELS": NAME,
            "PORT": port,
            "PREDICTIONS_DIR": folder / "kept",
            "PREDICTIONS_DAYS": 36_500,
        }
        environment = (
            os.environ | clock.environment() | {f"HORNPIPE_{key}": str(each) for key, each in settings.items()}
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "hornpipe", "serve"], env=environment, stderr=log, stdout=log, start_new_session=True
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                wait(lambda: ready(client), f"the service is ready; see {folder / 'log'}")
                yield client
        finally:
            process.terminate()
            process.wait()


def wait(condition: Callable[[], object], what: str, seconds: float = 300.0) -> None:
    """Raises TimeoutError that says what did not come about."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.5)


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


class Replay:
    """Asks, tells, and writes down what the service says of itself."""

    def __init__(self, client: httpx.Client, clock: Clock, manifest: Manifest) -> None:
        self._client = client
        self._clock = clock
        self._manifest = manifest
        self._landing: dict[datetime, list[Row]] = defaultdict(list)
        self._answers: list[float] = []
        self.days: list[Row] = []

    def run(self, found: list[Flight]) -> None:
        """Hour by hour, and on until every flight has arrived. Ctrl-C: no more are asked about."""
        signal.signal(signal.SIGINT, lambda *_: found.clear())
        now = found[0].asked.replace(minute=0)
        at = 0
        while at < len(found) or self._landing:
            now += HOUR
            if now.hour == 0 and self._answers:
                self._clock.set(now - timedelta(seconds=1))
                self._look(now - timedelta(seconds=1))
            self._clock.set(now)
            asked = at
            while at < len(found) and found[at].asked <= now:
                at += 1
            self._ask(found[asked:at])
            self._tell(now)

    def _ask(self, some: list[Flight]) -> None:
        for start in range(0, len(some), 200):
            part = some[start : start + 200]
            answer = self._client.post("/predict", json={"instances": [each.row for each in part]})
            given = answer.raise_for_status().json()
            for i, each in enumerate(part):
                hour = each.arrived.replace(minute=0, second=0) + HOUR
                self._landing[hour].append({"request_id": given["request_id"], "row": i, "label": each.outcome})
            self._answers += [each["probabilities"]["late"] for each in given["predictions"]]

    def _tell(self, now: datetime) -> None:
        for hour in [hour for hour in self._landing if hour <= now]:
            self._client.post("/feedback", json=self._landing.pop(hour)).raise_for_status()

    def _look(self, now: datetime) -> None:
        """Of the day that is ending: what the service says of it, and of the last seven."""
        wait(lambda: self._said(1)["rows"] >= len(self._answers), "what was logged is indexed")
        said = self._said(7)
        today, week = said["days"][0], said["metrics"]
        self.days.append(
            {
                "day": today["day"],
                "midnight": today,
                "counts": self._of_counts(),
                "week": {name: each["value"] for name, each in week.items()},
                "week_error": {name: each["error"] for name, each in week.items() if each["error"] is not None},
            }
        )
        print(f"{now:%Y-%m-%d}  {today['rows']:4} flights, {today['labelled_share']:.0%} arrived", flush=True)
        self._answers.clear()

    def _said(self, days: int) -> Row:
        """Of the only version."""
        report = self._client.get(f"/models/{NAME}/quality", params={"days": days}).raise_for_status().json()
        found: Row = report["versions"][0]
        return found

    def _of_counts(self) -> dict[str, float]:
        """The estimate of the day by the bins that the service counts into."""
        scores, output = np.array(self._answers, np.float32), self._manifest.output
        above = int((scores >= np.float32(output.threshold)).sum())
        counts = counts_of(self._manifest.drift.outputs[self._manifest.score], scores)
        return estimated_of_counts(self._manifest, counts, {"late": above, "on_time": len(scores) - above})

    def final(self) -> Row:
        """What the service says in the end of every day, when all flights have arrived."""
        wait(lambda: self._said(366)["labelled_share"] == 1, "every label is there")
        return self._said(366)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="folder with a production version of flights"
    )
    parser.add_argument("--from", dest="since", type=date.fromisoformat, default=date(2013, 9, 1))
    parser.add_argument("--until", type=date.fromisoformat, default=date(2013, 12, 31))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    version = routing.read(options.models, NAME).production
    manifest = bundle.read_version(options.models, NAME, version).manifest
    found = flights(manifest, options.since, options.until)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(Path(folder))
        clock.set(found[0].asked)
        with service(options.models, Path(folder), clock) as client:
            replay = Replay(client, clock, manifest)
            replay.run(found)
            final = replay.final()
    result = {
        "flights": final["rows"],
        "seconds": time.monotonic() - began,
        "trained": manifest.data.model_dump(),
        "test": {name: each.model_dump() for name, each in manifest.metrics.items()},
        "curve": len(manifest.expectation.scores) if manifest.expectation else 0,
        "days": replay.days,
        "final": final,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result) + "\n")
    print(final["summary"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
