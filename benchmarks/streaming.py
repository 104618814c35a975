"""Memory and time of a run on Parquet shards that do not fit into memory.

    python -m benchmarks.streaming [ROWS, 20000000 by default] [FOLDER, build/streaming by default]

Writes ROWS rows of 20 features and a target in 20 shards (1.9 GB for 20 million), trains one epoch on them and prints
the peak of resident memory of the process after each step. Needs as much disk again for the encoded rows.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

SHARDS = 20
NUMBERS = [f"number_{i}" for i in range(15)]
CATEGORIES = {"color": 4, "month": 12, "city": 300, "shop": 5000, "weekday": 7}


def write(rows: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    for shard in range(SHARDS):
        rng = np.random.default_rng(shard)
        x = {name: rng.standard_normal(rows // SHARDS, dtype=np.float32) for name in NUMBERS}
        codes = {name: rng.integers(0, size, rows // SHARDS) for name, size in CATEGORIES.items()}
        logit = 1.5 * x["number_0"] - x["number_1"] * x["number_2"] + np.sin(2 * x["number_3"])
        logit += 0.6 * (codes["color"] == 2) - 0.02 * (codes["city"] % 50)
        bought = rng.random(rows // SHARDS) < 1 / (1 + np.exp(-logit))
        x["number_5"][rng.random(rows // SHARDS) < 0.1] = np.nan
        names = {name: np.char.add(name[0], code.astype(str)) for name, code in codes.items()}
        table = pa.table(x | names | {"bought": np.where(bought, "yes", "no")})
        pq.write_table(table, folder / f"part-{shard:03}.parquet", row_group_size=250_000)


def config(folder: Path):
    from training import config

    numbers = {name: {"kind": "number", "optional": name == "number_5"} for name in NUMBERS}
    return config.parse(
        {
            "name": "streaming",
            "data": {"path": str(folder), "target": "bought", "positive": "yes", "stream": True},
            "split": {"by": "random", "validation": 0.05, "test": 0.05},
            "features": numbers | dict.fromkeys(CATEGORIES, "category"),
            "model": {"hidden": [64, 64], "number_bins": 8, "category_width": 8},
            "training": {"epochs": 1, "batch_size": 16384},
        }
    )


def peak() -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(f"{int(line.split()[1]) / 1e6:.2f} GB" for line in lines if line.startswith("VmHWM"))


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "build/streaming")
    shards, work = folder / "shards", folder / "work"
    if not shards.exists():
        write(rows, shards)
    shutil.rmtree(work, ignore_errors=True)
    from training import data, fit, model
    from training.loop import devices
    from training.loop.run import Run
    from training.progress import TrainingProgress

    print(f"{'imported':34}{peak():>10}")
    settings, started = config(shards), time.perf_counter()
    prepared = data.prepare(settings, work / "data")
    print(f"{f'prepared in {time.perf_counter() - started:.0f} s':34}{peak():>10}")
    with devices.building(settings.training):
        network = model.build(prepared, settings.model)
    progress, steps = TrainingProgress(Console(quiet=True)), -(-prepared.train.rows // 16384)
    with Run.open(work / "runs", settings) as run, progress.training(steps) as listener:
        outcome = fit.fit(network, prepared, settings, run, listener)
    print(f"{f'trained {prepared.train.rows:,} rows in {outcome.seconds:.0f} s':34}{peak():>10}")
    started = time.perf_counter()
    data.prepare(settings, work / "data")
    print(f"{f'prepared again in {time.perf_counter() - started:.0f} s':34}{peak():>10}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
