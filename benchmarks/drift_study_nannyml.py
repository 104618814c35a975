"""NannyML on the streams of the drift study, in its own environment (rivals/nannyml.txt).

    build/rivals/nannyml/bin/python -m benchmarks.drift_study_nannyml FOLDER OUTPUT

Reads FOLDER/*.parquet, writes OUTPUT as JSON. Univariate drift by the Jensen-Shannon distance and estimated
performance (CBPE), with the defaults of its documentation: chunks by day and by week, thresholds three standard
deviations from the mean of the reference's chunks. The inputs against the training rows, the score and its quality
against the validation rows.
"""

import json
import sys
import time
import warnings
from pathlib import Path

BEGAN = time.process_time()

import nannyml  # noqa: E402  # what importing takes is measured, too
import pandas as pd  # noqa: E402

CATEGORIES = ["carrier", "origin", "dest"]
BESIDE = ["hour", "timestamp", "label", "predicted"]
# Weeks as the stream has them: 1 September 2013 was a Sunday.
PERIODS = {"day": "D", "week": "W-SAT"}
HOURS = {"day": 24, "week": 168}
SCORE, METHOD = "probability", "jensen_shannon"


def peak_mb() -> float:
    """The most memory that this process has had; getrusage would count that of whoever started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1.024 / 1000


IMPORTED = time.process_time() - BEGAN, peak_mb()


def main(folder: Path, output: Path) -> None:
    warnings.simplefilter("ignore")  # of pandas, about NannyML
    rows = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    inputs = [name for name in rows["train"].columns if name not in (*BESIDE, SCORE)]
    seconds, wall = dict[str, float](), dict[str, float]()
    found, estimates = list[list[object]](), list[list[object]]()

    def timed(key: str, work: object) -> object:
        began, at = time.process_time(), time.perf_counter()
        result = work()
        seconds[key], wall[key] = time.process_time() - began, time.perf_counter() - at
        print(f"nannyml: {key}, {seconds[key]:.1f} s", flush=True)
        return result

    for period, pandas_period in PERIODS.items():
        for columns, reference, streams, what in (
            (inputs, "train", ("autumn", "control", "in_order"), "inputs"),
            ([SCORE], "validation", ("autumn", "control_outputs"), "score"),
        ):
            drift = calculator(columns, pandas_period)
            timed(f"fit {period} {what}", lambda d=drift, r=reference: d.fit(rows[r]))
            for stream in streams:
                result = timed(f"{stream} {period} {what}", lambda d=drift, s=stream: d.calculate(rows[s]))
                found += judged(result, columns, stream, period, windows(rows[stream], period))
        quality = estimator(pandas_period)
        timed(f"fit {period} cbpe", lambda q=quality: q.fit(rows["validation"]))
        for stream in ("autumn", "control_outputs"):
            result = timed(f"{stream} {period} cbpe", lambda q=quality, s=stream: q.estimate(rows[s]))
            estimates += estimated(result, stream, period, windows(rows[stream], period))
    memory = {"imported_mb": IMPORTED[1], "peak_mb": peak_mb()}
    content = {"version": nannyml.__version__, "verdicts": found, "estimates": estimates, "seconds": seconds}
    output.write_text(json.dumps(content | {"wall": wall, "import_seconds": IMPORTED[0], "memory": memory}))


def calculator(columns: list[str], period: str) -> nannyml.UnivariateDriftCalculator:
    return nannyml.UnivariateDriftCalculator(
        column_names=columns,
        treat_as_categorical=[name for name in CATEGORIES if name in columns],
        timestamp_column_name="timestamp",
        continuous_methods=[METHOD],
        categorical_methods=[METHOD],
        chunk_period=period,
    )


def estimator(period: str) -> nannyml.CBPE:
    return nannyml.CBPE(
        problem_type="classification_binary",
        y_pred_proba=SCORE,
        y_pred="predicted",
        y_true="label",
        timestamp_column_name="timestamp",
        metrics=["roc_auc"],
        chunk_period=period,
    )


def windows(rows: pd.DataFrame, period: str) -> int:
    """How many whole ones there are."""
    return (int(rows["hour"].iloc[-1]) // 24 + 1) * 24 // HOURS[period]


def judged(result: object, columns: list[str], stream: str, period: str, count: int) -> list[list[object]]:
    table = result.filter(period="analysis").to_df()
    return [
        [
            stream,
            period,
            i,
            name,
            float(of["value"].iloc[i]),
            float(of["upper_threshold"].iloc[i]),
            bool(of["alert"].iloc[i]),
        ]
        for name, of in ((name, table[name, METHOD]) for name in columns)
        for i in range(count)
    ]


def estimated(result: object, stream: str, period: str, count: int) -> list[list[object]]:
    """Stream, period, window, estimate, its alert's limits, and whether it rings."""
    table = result.filter(period="analysis").to_df()["roc_auc"]
    keys = ("value", "lower_threshold", "upper_threshold")
    return [
        [stream, period, i, *(float(table[each].iloc[i]) for each in keys), bool(table["alert"].iloc[i])]
        for i in range(count)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
