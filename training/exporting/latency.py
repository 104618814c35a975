"""How long a call of each variant takes, measured in turns, so that a busy moment of the machine is everyone's."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from contract.features import Encoded
from contract.manifest import Latency
from contract.runtimes import Runtime

ROWS: tuple[Literal["1", "32"], ...] = ("1", "32")
TURNS, SECONDS_A_TURN, FEWEST_CALLS_A_TURN = 6, 0.05, 2
WARM_UP_SECONDS = 0.1

Latencies = dict[Literal["1", "32"], Latency]


def head(encoded: Encoded, rows: int) -> Encoded:
    """The first `rows` rows, repeated where there are fewer."""
    return encoded.take(np.arange(rows) % encoded.rows)


def latencies(runtimes: Mapping[str, Runtime], encoded: Encoded) -> dict[str, Latencies]:
    """Microseconds a call with 1 and with 32 rows, by name."""
    by_rows = {rows: _in_turns(runtimes, head(encoded, int(rows))) for rows in ROWS}
    return {name: {rows: by_rows[rows][name] for rows in ROWS} for name in runtimes}


def _in_turns(runtimes: Mapping[str, Runtime], encoded: Encoded) -> dict[str, Latency]:
    for runtime in runtimes.values():
        _calls(lambda: runtime.run(encoded), WARM_UP_SECONDS)  # noqa: B023  # called at once
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(TURNS):
        for name, runtime in runtimes.items():
            runtime.run(encoded)  # others have had the caches
            times[name] += _calls(lambda: runtime.run(encoded), SECONDS_A_TURN)  # noqa: B023
    return {name: _latency(seconds) for name, seconds in times.items()}


def _calls(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, for as many as fit, and at least two."""
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends or len(times) < FEWEST_CALLS_A_TURN:
        call()
        times.append(time.perf_counter() - started)
    return times


def _latency(seconds: list[float]) -> Latency:
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e6
    return Latency(p50=round(float(p50), 2), p99=round(float(p99), 2))
