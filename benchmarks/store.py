"""What has been measured, a line of JSON each, written at once: a run that is stopped keeps what it has.

build/bench/runs/TIME.jsonl      the first line is about the run, the others have a `what`: visit, load, answer,
                                 loop, added, failed or overload
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUNS = Path(__file__).resolve().parents[1] / "build" / "bench" / "runs"

Record = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """One run's file."""

    path: Path

    def add(self, what: str, **facts: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"what": what, **facts}) + "\n")

    def all(self, what: str) -> list[Record]:
        return [record for record in self._records() if record["what"] == what]

    @property
    def run(self) -> Record:
        """What the run was told, and where it ran."""
        return next(iter(self._records()))

    def _records(self) -> Iterator[Record]:
        for line in self.path.read_text().splitlines():
            if line.endswith("}"):  # the last one may have been cut short
                yield json.loads(line)


def start(**facts: Any) -> Store:
    """A new run."""
    RUNS.mkdir(parents=True, exist_ok=True)
    store = Store(RUNS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl")
    store.add("run", **facts)
    return store


def newest() -> Store | None:
    """The run that was started last."""
    files = sorted(RUNS.glob("*.jsonl"))
    return Store(files[-1]) if files else None
