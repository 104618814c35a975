"""Evidently on the streams of the drift study, in its own environment (rivals/evidently.txt).

    build/rivals/evidently/bin/python -m benchmarks.drift_study_evidently FOLDER OUTPUT

Reads FOLDER/*.parquet, writes OUTPUT as JSON. DataDriftPreset as it comes, once a window: the inputs against the
training rows, the score against the validation rows, all rows of both, as its documentation has it. What is timed is
making the window's data set and running the report; no page is rendered.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

BEGAN = time.process_time()

import pandas as pd  # noqa: E402  # what importing takes is measured, too
from evidently import DataDefinition, Dataset, Report  # noqa: E402
from evidently.presets import DataDriftPreset  # noqa: E402

CATEGORIES = ["carrier", "origin", "dest"]
BESIDE = ["hour", "timestamp", "label", "predicted", "probability"]
PERIODS = {"day": 24, "week": 168}
# A window takes seconds, so of the days it is asked about every eighth: each day of the week in its turn.
PARTS = (
    ("autumn", "score", "week", 1),
    ("control_outputs", "score", "week", 1),
    ("autumn", "score", "day", 8),
    ("control_outputs", "score", "day", 8),
    ("autumn", "inputs", "week", 1),
    ("control", "inputs", "week", 1),
    ("autumn", "inputs", "day", 8),
    ("control", "inputs", "day", 8),
    ("in_order", "inputs", "week", 2),
    ("in_order", "inputs", "day", 24),
)
SCORE, DATASET = "probability", "dataset"


def peak_mb() -> float:
    """The most memory that this process has had; getrusage would count that of whoever started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1.024 / 1000


IMPORTED = time.process_time() - BEGAN, peak_mb()


def main(folder: Path, output: Path) -> None:
    """What has been found is written after each part, and not asked again."""
    train, validation = (pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "validation"))
    inputs = [name for name in train.columns if name not in BESIDE]
    began = time.process_time()
    references = {"inputs": (inputs, dataset(train[inputs])), "score": ([SCORE], dataset(validation[[SCORE]]))}
    found = json.loads(output.read_text()) if output.exists() else {"verdicts": [], "seconds": {}, "wall": {}}
    found |= {"version": version("evidently"), "import_seconds": IMPORTED[0]}
    found["seconds"]["reference"] = time.process_time() - began
    for stream, what, period, apart in PARTS:
        key = f"{stream} {period} {what}"
        if key in found["seconds"]:
            continue
        rows = pd.read_parquet(folder / f"{stream}.parquet")
        began, at = time.process_time(), time.perf_counter()
        found["verdicts"] += judged(rows, *references[what], stream, period, apart)
        found["seconds"][key], found["wall"][key] = time.process_time() - began, time.perf_counter() - at
        print(f"evidently: {key}, {found['seconds'][key]:.1f} s", flush=True)
        found["memory"] = {"imported_mb": IMPORTED[1], "peak_mb": peak_mb()}
        output.write_text(json.dumps(found))


def dataset(rows: pd.DataFrame) -> Dataset:
    categories = [name for name in CATEGORIES if name in rows.columns]
    numbers = [name for name in rows.columns if name not in CATEGORIES]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    return Dataset.from_pandas(rows, data_definition=definition)


def judged(
    rows: pd.DataFrame, columns: list[str], reference: Dataset, stream: str, period: str, apart: int
) -> list[list[object]]:
    """Verdicts of whole windows, so many periods apart, the last one among them: by column, and of the data set. None
    of a window that Evidently fails on."""
    hours, found = PERIODS[period], list[list[object]]()
    windows = (int(rows["hour"].iloc[-1]) // 24 + 1) * 24 // hours
    for i in range((windows - 1) % apart, windows, apart):
        current = dataset(rows.loc[rows["hour"] // hours == i, columns])
        try:
            metrics = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]
        except ValueError as error:  # a column that is empty ends the whole report
            print(f"evidently: {stream}, {period} {i}: {error}", flush=True)
            metrics = []
        verdicts = [verdict(metric) for metric in metrics]
        found += [[stream, period, i, *each] for each in verdicts if len(columns) > 1 or each[0] != DATASET]
    return found


def verdict(metric: dict) -> list[object]:
    """Feature, value, limit, and whether it has drifted: a p-value that is below it, a distance that is not."""
    config, value = metric["config"], metric["value"]
    if "column" not in config:
        return [DATASET, value["share"], config["drift_share"], value["share"] >= config["drift_share"]]
    value, limit = float(value), config["threshold"]
    return [config["column"], value, limit, value < limit if "p_value" in config["method"] else value >= limit]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
