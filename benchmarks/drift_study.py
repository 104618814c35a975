"""Flights as the real test of monitoring: learned from January to August, asked from September to December.

    python -m benchmarks.drift_study             # everything that is not in build/drift-study yet
    python -m benchmarks.drift_study --report    # tables and pictures anew, of what is there

Trains, replays four months hour by hour through a service over HTTP (drift_study_replay.py), says which alarms would
have rung, and asks Evidently and NannyML about the same windows, each in its own environment under build/rivals.
Writes the pictures and tables of docs/studies/flights-drift.md, which is told by a person.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import drift_study_cost, drift_study_pictures, drift_study_replay, drift_study_tables, environments
from benchmarks.drift_study_data import FOLDER, LEARN, TEST, VALIDATION, Rows, Stream, divide
from benchmarks.drift_study_replay import Replayed
from benchmarks.drift_study_results import Ours, Results, packed
from benchmarks.drift_study_verdicts import (
    DAY,
    WEEK,
    baselines_of,
    differs,
    if_it_were,
    qualities,
    ringing,
    threshold_of,
    verdicts,
    worse_days,
)
from benchmarks.machine import facts
from benchmarks.servers.table import RIVALS
from contract import bundle, routing
from contract.bundle import Bundle
from contract.manifest import Manifest

NAME = "flights"
CONFIG = Path("examples/flights/train.toml")
MODELS, REPLAYED, SERVICE = FOLDER / "models", FOLDER / "replayed", FOLDER / "service.json"
STREAMS, OURS = FOLDER / "streams", FOLDER / "ours.json"
TOOLS = ("evidently", "nannyml")


def main() -> None:
    rows = divide()
    if "--report" not in sys.argv:
        made = model()
        if not SERVICE.exists():
            _replay(rows, made)
        replayed = drift_study_replay.load(REPLAYED)
        _write_streams(rows, replayed, made.manifest)
        for tool in TOOLS:
            _ask(tool)
        OURS.write_text(packed(ours(rows, replayed, made)))
    results = Results.read(OURS, {tool: _answer(tool) for tool in TOOLS})
    drift_study_pictures.draw(results)
    drift_study_tables.write(results)


def model() -> Bundle:
    """The example's own config, with its split moved to before September; trained now where it is not there."""
    if routing.read(MODELS, NAME).production is None:
        settings = {
            "data.path": LEARN,
            "split.validation_from": VALIDATION,
            "split.test_from": TEST,
            "evaluation.importance": "false",
            "evaluation.robustness": "false",
            "evaluation.slices": "false",
        }
        chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        where = ["--models", str(MODELS), "--runs", str(FOLDER / "runs"), "--promote"]
        subprocess.run([sys.executable, "-m", "hornpipe", "train", str(CONFIG), *chosen, *where], check=True)
    version = routing.read(MODELS, NAME).production
    assert version is not None  # it has just been promoted
    return bundle.read_version(MODELS, NAME, version)


def _replay(rows: Rows, made: Bundle) -> None:
    """SERVICE is written last, so it is there only when all of it is."""
    found = drift_study_replay.replay(rows.asked, MODELS.resolve(), NAME, FOLDER)
    drift_study_replay.save(REPLAYED, found.streams)
    proof = {"endpoint_differs_by": differs(found, baselines_of(made.manifest))}
    SERVICE.write_text(json.dumps(asdict(found.weighed) | proof))


def _write_streams(rows: Rows, replayed: Mapping[str, Replayed], manifest: Manifest) -> None:
    """For the rivals: what the service has seen and said, and the truth."""
    STREAMS.mkdir(exist_ok=True)
    for stream in (rows.train, *rows.asked):
        table = stream.features.append_column("hour", pa.array(stream.hours))
        table = table.append_column("timestamp", pa.array(stream.times(), pa.timestamp("s")))
        table = table.append_column("label", pa.array(stream.labels))
        if stream.name in replayed:
            scores = replayed[stream.name].scores
            table = table.append_column("probability", pa.array(scores.astype(np.float64)))
            table = table.append_column("predicted", pa.array((scores >= threshold_of(manifest)).astype(np.int64)))
        pq.write_table(table, STREAMS / f"{stream.name}.parquet")


def _ask(tool: str) -> None:
    if _answer(tool).exists():
        return
    environments.make(tool)
    quiet = {"PATH": "/usr/bin:/bin", "DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "HOME": str(FOLDER)}
    command = [
        str(RIVALS / tool / "bin" / "python"),
        "-m",
        f"benchmarks.drift_study_{tool}",
        str(STREAMS),
        str(_answer(tool)),
    ]
    subprocess.run(command, check=True, env=quiet)


def _answer(tool: str) -> Path:
    return FOLDER / f"{tool}.json"


def ours(rows: Rows, replayed: Mapping[str, Replayed], made: Bundle) -> Ours:
    manifest = made.manifest
    asked = [stream for stream in rows.asked if stream.name != rows.validation.name]
    autumn, baselines = replayed[rows.autumn.name], baselines_of(manifest)
    return Ours(
        features=list(manifest.drift.inputs),
        outputs=list(manifest.drift.outputs),
        verdicts=[each for s in asked for each in verdicts(s, replayed[s.name], baselines)],
        ringing=[each for s in asked for each in ringing(s, replayed[s.name], baselines)],
        weeks=list(qualities(rows.autumn, autumn.scores, manifest, WEEK)),
        days=list(qualities(rows.autumn, autumn.scores, manifest, DAY)),
        worse=worse_days(rows.autumn, autumn.scores, manifest),
        if_months=if_it_were(range(1, 8), rows.autumn, made),
        test=manifest.metrics["roc_auc"],
        cost=drift_study_cost.measure(rows.autumn, autumn, manifest),
        facts=facts() | json.loads(SERVICE.read_text()) | _sizes(rows),
    )


def _sizes(rows: Rows) -> dict[str, Any]:
    streams: tuple[Stream, ...] = (rows.train, *rows.asked)
    return {"rows": {stream.name: len(stream.rows) for stream in streams}}


if __name__ == "__main__":
    main()
