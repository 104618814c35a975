"""A run's records, grouped and reduced to medians over its rounds."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from benchmarks.servers.table import SERVERS, Role
from benchmarks.store import Record, Store

# Ratios and limits are held at so many connections.
LOADED = 32


@dataclass(frozen=True)
class Row:
    """Medians over the rounds. `spread` is that of the CPU time: (largest - smallest) / median."""

    per_second: float
    p50: float
    p99: float
    p999: float | None
    cpu: float
    failed: float
    spread: float


class Results:
    """What a run found, by server and case."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loads: dict[tuple[str, str], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in store.all("load"):
            self._loads[record["server"], record["case"]][record["connections"]].append(record)

    def rows(self, server: str, case: str) -> dict[int, Row]:
        """By connections."""
        return {connections: _row(records) for connections, records in self._loads.get((server, case), {}).items()}

    def best(self, case: str, role: Role) -> tuple[str, Row] | None:
        """The server of that role with most requests/s under load."""
        names = [server.name for server in SERVERS if server.role == role]
        found = [(name, row) for name in names if (row := self.rows(name, case).get(LOADED))]
        return max(found, key=lambda each: each[1].per_second, default=None)

    def visits(self, server: str) -> dict[str, list[Record]]:
        """By model."""
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self._store.all("visit"):
            if record["server"] == server:
                found[record["model"]].append(record)
        return found

    def loops(self, model: str) -> dict[tuple[str, int], tuple[float, float]]:
        """Calls a second, and microseconds of CPU time a call, by variant and threads."""
        found: dict[tuple[str, int], list[Record]] = defaultdict(list)
        for record in self._store.all("loop"):
            if record["model"] == model:
                found[record["variant"], record["threads"]].append(record)
        return {
            key: (median(each["per_second"] for each in records), median(each["cpu"] for each in records))
            for key, records in found.items()
        }

    def added(self) -> list[Record]:
        """What each further model adds to the service's memory."""
        return [record for record in self._store.all("added") if "added_mb" in record]

    def overload(self, server: str) -> Record | None:
        """The last try."""
        return next((each for each in reversed(self._store.all("overload")) if each["server"] == server), None)

    def answers(self, server: str) -> dict[str, float]:
        """The largest difference from TensorFlow's answer, by case."""
        return {each["case"]: each["difference"] for each in self._store.all("answer") if each["server"] == server}

    def failures(self) -> dict[tuple[str, str, str], list[int]]:
        """Connections, by server, case and why; each reason once."""
        found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for each in self._store.all("failed"):
            found[each["server"], each["case"], each["why"]].append(each["connections"])
        return found


def _row(records: list[Record]) -> Row:
    tails = [each["p999"] for each in records if each["p999"] is not None]
    cpu = [each["cpu"] for each in records]
    return Row(
        per_second=median(each["per_second"] for each in records),
        p50=median(each["p50"] for each in records),
        p99=median(each["p99"] for each in records),
        p999=median(tails) if tails else None,
        cpu=median(cpu),
        failed=median(each["failed"] for each in records),
        spread=(max(cpu) - min(cpu)) / median(cpu),
    )
