"""A page of the quality study: docs/studies/flights-quality.md and its picture, from what quality_study.py wrote.

python -m benchmarks.quality_report build/quality-study/flights.json
"""

import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path("docs/studies")
NAME = "flights-quality"
SHOWN = {"roc_auc": "ROC AUC", "log_loss": "log loss", "f1": "F1"}
TOLD = ("roc_auc", "log_loss", "accuracy", "precision", "recall", "f1")
MONTHS = {9: "September", 10: "October", 11: "November", 12: "December"}

Row = dict[str, Any]
Series = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


def main(path: Path) -> int:
    found = json.loads(path.read_text())
    days = _days(found)
    FOLDER.mkdir(parents=True, exist_ok=True)
    _draw(days, FOLDER / f"{NAME}.svg")
    (FOLDER / f"{NAME}.md").write_text(_page(found, days))
    return 0


def _days(found: Row) -> list[Row]:
    """What was said of each day at midnight, beside what it said in the end."""
    ends = {each["day"]: each for each in found["final"]["days"]}
    return [each | {"final": ends[each["day"]]} for each in found["days"]]


def _series(days: Sequence[Row], metric: str) -> Series:
    """By day; NaN where a day does not define it."""

    def column(part: str, key: str) -> list[float]:
        each = [day[part]["metrics"].get(metric, {}).get(key) for day in days]
        return [np.nan if value is None else value for value in each]

    series = {
        "value": column("final", "value"),
        "low": column("final", "low"),
        "high": column("final", "high"),
        "estimate": column("midnight", "estimate"),
        "counts": [day["counts"].get(metric, np.nan) for day in days],
        "week": [day["week"].get(metric, np.nan) for day in days],
        "week_error": [day["week_error"].get(metric, np.nan) for day in days],
    }
    return {name: np.array(values, np.float64) for name, values in series.items()}


def _draw(days: Sequence[Row], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": NAME, "font.size": 9})
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    dates = [date.fromisoformat(day["day"]) for day in days]
    for axes, (metric, name) in zip(figure.subplots(len(SHOWN), sharex=True), SHOWN.items(), strict=True):
        of = _series(days, metric)
        axes.fill_between(dates, of["low"], of["high"], alpha=0.25, lw=0, label="what came true, 95%")
        axes.plot(dates, of["value"], lw=1)
        axes.plot(dates, of["estimate"], lw=1.4, color="C1", label="estimate at midnight, without labels")
        axes.plot(dates, of["estimate"] - of["week_error"], lw=1, ls=":", color="C3", label="less its known error")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="lower left", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _page(found: Row, days: Sequence[Row]) -> str:
    late = np.median([day["final"]["label_delay_seconds"] for day in days]) / 3600
    share = np.median([day["midnight"]["labelled_share"] for day in days])
    return TEXT.format(
        flights=found["flights"],
        days=len(days),
        late=late,
        share=share,
        curve="an isotonic curve" if found["curve"] else "no curve: the scores were calibrated well enough",
        name=NAME,
        columns=f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}",
        by_metric=_by_metric(days),
        by_month=_by_month(days),
        summary=found["final"]["summary"],
        minutes=found["seconds"] / 60,
        lessons=_lessons(),
    )


def _lessons() -> str:
    """What a person wrote below the last page stays."""
    path = FOLDER / f"{NAME}.md"
    old = path.read_text() if path.exists() else ""
    return "".join(old.partition("\n## What it teaches")[1:])


def _by_metric(days: Sequence[Row]) -> str:
    """How far each way of guessing is from what a day's flights came to."""
    return "\n".join(f"| {metric} | {' | '.join(_cells(_series(days, metric)))} |" for metric in TOLD)


def _cells(of: Series) -> list[str]:
    """In the order of COLUMNS."""
    guesses = of["estimate"], of["counts"], of["estimate"] - of["week_error"], of["week"]
    off = [np.nanmean(np.abs(guess - of["value"])) for guess in guesses]
    half = np.nanmean(of["high"] - of["low"]) / 2
    bias = np.nanmean(of["estimate"] - of["value"])
    within = np.nanmean((of["low"] <= of["estimate"]) & (of["estimate"] <= of["high"]))
    apart = np.nanmax(np.abs(of["counts"] - of["estimate"]))
    numbers = [f"{each:.3f}" for each in (np.nanmean(of["value"]), half, *off)]
    return [*numbers, f"{bias:+.3f}", f"{within:.0%}", f"{apart:.3f}"]


def _by_month(days: Sequence[Row]) -> str:
    lines = []
    for month, name in MONTHS.items():
        some = [day for day in days if date.fromisoformat(day["day"]).month == month]
        if some:
            cells = []
            for metric in ("roc_auc", "accuracy", "f1"):
                of = _series(some, metric)
                cells.append(f"{np.nanmean(of['value']):.3f} | {np.nanmean(of['estimate']):.3f}")
            rows = sum(day["final"]["rows"] for day in some)
            lines.append(f"| {name} | {rows:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


COLUMNS = (
    "metric",
    "came true",
    "half its 95% interval",
    "from rows",
    "from counts",
    "corrected",
    "last week",
    "bias from rows",
    "inside the interval",
    "counts from rows, at most",
)
TEXT = """\
# Was it right? Flights, whose truth comes hours later

`python -m benchmarks.quality_study` sends {flights:,} real flights of {days} days through a service over HTTP, in the
order of time. The model has learnt from January to August, was validated on the second half of August, and knows
nothing that is not known before departure. Each flight is asked about two hours before it shall leave. When it has
landed, its label goes to `POST /feedback`: half of the labels come within {late:.1f} hours. The service's clock is
moved by libfaketime, so that its days are those of the flights; all else is as anybody would run it. Of the validation
rows training made {curve}. The replay took {minutes:.0f} minutes on two busy cores.

At each midnight the service says what the day was worth: what it can tell from answers alone, and from the labels that
have come by then ({share:.0%} of the day's flights, in the median). In the end all labels are there:

![By day: what came true, and what was estimated]({name}.svg)

By day, how far a guess at midnight is from what the day's flights came to in the end (mean absolute difference):

- "from rows" is the estimate of `GET /models/flights/quality`;
- "from counts" is made as `hornpipe_quality_estimate` is, which needs no log;
- "corrected" is the first less `hornpipe_quality_estimate_error`, of the labels of the last seven days;
- "last week" is `hornpipe_quality`: what these labels say, taken for today's.

{columns}
{by_metric}

By month, means over days: what came true, and the estimate from rows.

| month | flights | ROC AUC | estimated | accuracy | estimated | F1 | estimated |
| --- | --- | --- | --- | --- | --- | --- | --- |
{by_month}

What the service said in the end:

> {summary}
{lessons}"""

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
