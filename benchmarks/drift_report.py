"""What drift_alarms.py has found, as a page with a picture."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.drift_rules import HOUR, LEAST_ROWS, WINDOWS, Drift, Floats
from contract.drift import CRITICAL_Z, NOTICEABLE

NAMES = tuple(window.name for window in WINDOWS)


@dataclass(frozen=True)
class Results:
    """Counts of alarms in so many `months`; delays are hours; of cycles and clumps alarms a month by window."""

    months: int
    quiet: Mapping[int, Counter[str]]
    delays: Mapping[tuple[int, float], Floats]
    days: Mapping[float, Sequence[float]]
    weeks: Mapping[float, Sequence[float]]
    clumps: Mapping[tuple[int, int], Sequence[float]]


PAGE = """\
# How often drift alarms are wrong, and how late they are

`python -m benchmarks.drift_alarms` has written this page, in {minutes:.0f} minutes of one core. It has the arithmetic
of `deploy/prometheus/rules` as arrays; a test holds both equal. The alerts ring when PSI passes both what people care
about (0.25 over an hour, 0.1 over a day or a week) and what chance explains (z = {z}), on {least} rows or more, for
half an hour (the first) or an hour and a half (the others).

![Alarms without drift, delays, quiet traffic, a daily cycle](drift_alarms.png)

## While nothing drifts

Alarms a month of a model with 20 features and 5 watched outputs. What is asked is always alike, but by day ten times as
much as at night, and less at weekends. {months} months for each line. The budget is one alarm a month.

{quiet}

In all, these alerts rang {rung} times in {all_months} months. Where they never rang at a volume, it is less than
{upper:.2f} times a month with 95% confidence. Beside them is what the usual rule does, PSI above 0.1, and what a
smaller z would do. The last column leaves out the 0.1 and the 0.25, the least rows and the waiting: it is what z alone
lets through; `GET /models/NAME/drift` asks for that and the 0.1.

## When something drifts

Hours from a sudden shift of one number's mean, at any hour of the week, until the first alarm of any window: the
median, and behind it what nine of ten stay under. {tries} shifts each; "never" is not in two weeks.

{delays}

PSI below 0.1 is not meant to ring. A window that the shift has half gone through is a mixture, and PSI grows with about
the square of the new rows' share: a day's window passes 0.1 for a shift of 0.2 when seven tenths of its rows are new.
Few rows add noise to PSI, which takes a shift of 0.2 over the 0.25 of an hour's window earlier than many rows do.

## Where these alarms are wrong

**What is asked has a cycle.** Alarms a month of one number whose mean follows the hour of the day, or is higher at
weekends, by so many standard deviations, at 1,000 rows an hour. The baseline is of whole cycles. An hour's window sees
a daily cycle, and rightly: what is asked at night is not what was learned. That is why it asks for 0.25, and why there
are longer windows, which wait until they are whole. A day's window sees weekends; a week's sees neither.

{cycles}

**Rows come in clumps.** The arithmetic takes rows for independent. Where k rows in a row are alike, n of them are worth
n / k. Alarms a month of the whole model at 300 rows an hour; to ask for 600 k rows mends it.

{clumps}
"""


def render(results: Results, seconds: float) -> str:
    months, rung = results.months * len(results.quiet), sum(_rung(counts) for counts in results.quiet.values())
    zs = [key for key in next(iter(results.quiet.values())) if key.startswith("z=") and key != f"z={CRITICAL_Z:g}"]
    keys = ("bare 1h", "bare 24h", *zs, "critical alone")
    sizes = sorted({size for _, size in results.delays})
    windows = [f"{cycle}, {name}" for cycle in ("daily", "weekly") for name in NAMES]
    return PAGE.format(
        minutes=seconds / 60,
        z=CRITICAL_Z,
        least=LEAST_ROWS,
        months=results.months,
        rung=rung,
        all_months=months,
        upper=-np.log(0.05) / results.months,  # of a Poisson count of none
        tries=len(next(iter(results.delays.values()))),
        quiet=_table(
            ("rows an hour", "these alerts", "PSI > 0.1, 1h", "PSI > 0.1, 24h", *keys[2:]), _quiet(results, keys)
        ),
        delays=_table(("rows an hour", *(f"PSI {size:g}" for size in sizes)), _delays(results, sizes)),
        cycles=_table(
            ("deviations", *windows), (_row(f"{a:g}", (*results.days[a], *results.weeks[a])) for a in results.days)
        ),
        clumps=_table(
            ("k", "least rows", *NAMES), (_row(f"{k} | {n}", found) for (k, n), found in results.clumps.items())
        ),
    )


def _rung(counts: Counter[str]) -> int:
    return sum(counts[name] for name in NAMES)


def _row(first: str, values: Iterable[float]) -> list[str]:
    return [first, *map(_number, values)]


def _quiet(results: Results, keys: Sequence[str]) -> Iterator[list[str]]:
    for volume, counts in results.quiet.items():
        found = (_rung(counts), *(counts[key] for key in keys))
        yield _row(f"{volume:,}", (each / results.months for each in found))


def _delays(results: Results, sizes: Sequence[float]) -> Iterator[tuple[str, ...]]:
    for volume in sorted({volume for volume, _ in results.delays}):
        quantiles = (np.quantile(results.delays[volume, size], (0.5, 0.9), method="higher") for size in sizes)
        yield f"{volume:,}", *(", ".join(map(_hours, each)) if np.isfinite(each[0]) else "never" for each in quantiles)


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if np.isfinite(hours) else "never"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---:"] * len(head), *rows))


def draw(results: Results, quiet: tuple[Drift, Drift], cycle: Sequence[Drift], path: Path) -> None:
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 8), dpi=110, layout="constrained")
        ((first, second), (third, fourth)) = figure.subplots(2, 2)
        _draw_alarms(first, results)
        _draw_delays(second, results)
        _draw_quiet(third, *quiet)
        _draw_cycle(fourth, cycle)
        figure.savefig(path, metadata={"Software": None})


def _draw_alarms(axes: Axes, results: Results) -> None:
    volumes, least = list(results.quiet), 3 / results.months
    for key, label in (("bare 1h", "PSI > 0.1 over 1 h"), ("bare 24h", "PSI > 0.1 over 24 h")):
        axes.plot(volumes, [max(results.quiet[v][key] / results.months, least) for v in volumes], "o-", label=label)
    own = [max(_rung(results.quiet[v]) / results.months, least) for v in volumes]
    axes.plot(volumes, own, "o-", color="black", label="these alerts")
    axes.axhline(1, color="grey", linestyle="--", linewidth=1)
    axes.text(volumes[-1], 1.2, "budget", ha="right", color="grey")
    axes.set(xscale="log", yscale="log", xlabel="rows an hour", ylabel="alarms a month")
    axes.set_title(f"Without drift, 20 features and 5 outputs (lowest: fewer than {least:.2g} with 95%)")
    axes.legend()


def _draw_delays(axes: Axes, results: Results) -> None:
    sizes = sorted({size for _, size in results.delays})
    for volume in sorted({volume for volume, _ in results.delays})[::2]:
        medians = [np.quantile(results.delays[volume, size], 0.5, method="higher") for size in sizes]
        axes.plot(sizes, medians, "o-", label=f"{volume:,} rows an hour")
    axes.axvline(NOTICEABLE, color="grey", linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="PSI of the shift", ylabel="hours until the first alarm, median")
    axes.set_title("A sudden shift")
    axes.legend()


def _draw_quiet(axes: Axes, hour: Drift, day: Drift) -> None:
    _trace(axes, hour.psi, 1, "PSI over 1 h", "tab:blue")
    limit = np.maximum(hour.critical(CRITICAL_Z), WINDOWS[0].noticeable)
    _trace(axes, np.where(hour.rows >= LEAST_ROWS, limit, np.nan), 1, "its limit", "tab:blue", "--")
    _trace(axes, day.psi, HOUR, "PSI over 24 h", "tab:orange")
    _trace(axes, np.maximum(day.critical(CRITICAL_Z), NOTICEABLE), HOUR, "its limit", "tab:orange", "--")
    axes.set(yscale="log", ylim=(0.005, 5), xlim=(7, 21), xlabel="days", ylabel="PSI")
    axes.set_title("No drift: a category of 20, 100 rows an hour (too few at night to say)")
    axes.legend(ncols=2)


def _draw_cycle(axes: Axes, cycle: Sequence[Drift]) -> None:
    for found, window in zip(cycle, WINDOWS, strict=True):
        _trace(axes, found.psi, window.step, f"PSI over {window.name}", None)
    for limit in (NOTICEABLE, 0.25):
        axes.axhline(limit, color="grey", linestyle="--", linewidth=1)
    axes.set(yscale="log", ylim=(0.001, 2), xlim=(7, 21), xlabel="days", ylabel="PSI")
    axes.set_title("A daily cycle of half a deviation, 1,000 rows an hour")
    axes.legend(ncols=3)


def _trace(axes: Axes, values: Floats, step: int, label: str, color: str | None, style: str = "-") -> None:
    days = (np.arange(len(values)) + 1) * step / HOUR / 24
    axes.plot(days, values, style, color=color, linewidth=1, label=label)
