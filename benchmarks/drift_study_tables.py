"""The tables behind docs/studies/flights-drift.md: every number that the study goes by."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from benchmarks.drift_study_data import AUTUMN
from benchmarks.drift_study_pictures import AUTUMN_DAYS, DATASET, DOCS, KINDS, SCORE, TITLES, of_kind
from benchmarks.drift_study_results import HORNPIPE, Results
from benchmarks.drift_study_verdicts import PERIODS, Verdict

DAY_ROWS = 900
PATH = DOCS / "flights-drift-tables.md"
PAGE = """\
# Flights, replayed: the tables

`python -m benchmarks.drift_study` has written this page; [flights-drift.md](flights-drift.md) says what it means.
{machine}

## Verdicts

How many windows of each kind were called drifted. *Autumn* is September to December; *no drift* are rows that were kept
out of training, from January to July, shuffled (of the score: from the first half of August, as its baseline is);
*January to July* are the same rows on their own days, about 270 a day. Evidently takes seconds a window, so it was
asked about every eighth day (every 24th of January to July) and about every week (every second); where a column is
empty, it gives no verdict on the others either.

Whole weeks:

{weeks}

Whole days:

{days}

## Alarms

When the alerts of `deploy/prometheus/rules` would have begun to ring in autumn, and the share of the time they then
rang. Those over an hour want 200 rows in it; no hour had more than 94 flights.

{alarms}

## A limit learned from whole weeks

PSI of the weeks of autumn against a limit that knows how far a normal week is from the year: the mean of the weeks of
January to July, and three standard deviations more. No alert does this today.

{learned}

## Quality

{quality}

## Cost

CPU seconds on the same machine, because it was busy. *In one go* is the verdicts on all {windows} days and weeks of
autumn, without starting Python, importing and reading the rows; ours is counting every row, as the service does it, and
judging {series} inputs and outputs. *A day* is what comes with a verdict each day: a process that starts, imports,
takes in the reference and judges the one day; ours is counting 900 rows and judging one window.

{cost}

{more}
"""


def write(results: Results) -> None:
    PATH.write_text(
        PAGE.format(
            machine=_machine(results),
            weeks=_verdicts(results, "week"),
            days=_verdicts(results, "day"),
            alarms=_table(("", "24 h: first", "ringing", "7 d: first", "ringing"), _alarms(results)),
            learned=_table(("", "limit", "largest week of autumn", "weeks above", "against 0.1"), _learned(results)),
            quality=_quality(results),
            windows=results.ours.cost.windows,
            series=results.ours.cost.series,
            cost=_table(("", "in one go", "against ours", "a day", "against ours", "memory"), _cost(results)),
            more=_more(results),
        ),
        encoding="utf-8",
    )


def _machine(results: Results) -> str:
    facts = results.ours.facts
    versions = ", ".join(f"{TITLES[tool]} {each['version']}" for tool, each in results.theirs.items())
    return (
        f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, load {facts['load_average']:.0f}, "
        f"Python {facts['python']}, {versions}."
    )


def _verdicts(results: Results, period: str) -> str:
    head = ["", *(f"{TITLES[tool]}, {KINDS[kind]}" for kind in KINDS for tool in results.tools)]
    names = [*results.ours.features, SCORE, DATASET]
    return _table(head, ([name, *(_share(each) for each in _all(results, name, period))] for name in names))


def _all(results: Results, name: str, period: str) -> Iterator[list[Verdict]]:
    for kind in KINDS:
        for tool in results.tools:
            yield list(of_kind(results, tool, kind, period).get(name, {}).values())


def _share(verdicts: Sequence[Verdict]) -> str:
    return f"{sum(each.drifted for each in verdicts)}/{len(verdicts)}" if verdicts else ""


def _alarms(results: Results) -> Iterator[list[str]]:
    end = 24 * len(results.ours.days)
    for name in (*results.ours.features, *results.ours.outputs):
        row = [name]
        for window in ("24h", "7d"):
            rung = [r for r in results.ours.ringing if (r.stream, r.series, r.window) == ("autumn", name, window)]
            hours = sum((end if each.ends is None else each.ends) - each.begins for each in rung)
            row += [_moment(min(each.begins for each in rung)), f"{hours / end:.0%}"] if rung else ["never", "0%"]
        yield row


def _moment(hour: float) -> str:
    return str(np.datetime64(AUTUMN, "h") + np.timedelta64(int(hour), "h")).replace("T", " ") + "h"


def _learned(results: Results) -> Iterator[list[str]]:
    autumn, before = (results.verdicts(HORNPIPE, stream, "week") for stream in ("autumn", "in_order"))
    for name in (*results.ours.features, *results.ours.outputs):
        known = np.array([each.value for each in before[name].values()])
        now = np.array([each.value for each in autumn[name].values()])
        limit = known.mean() + 3 * known.std(ddof=1)
        yield [name, f"{limit:.2f}", f"{now.max():.2f}", f"{(now > limit).sum()}/{len(now)}", f"{(now > 0.1).sum()}"]


def _quality(results: Results) -> str:
    theirs = {each[2]: each for each in results.theirs["nannyml"]["estimates"] if each[:2] == ["autumn", "week"]}
    head = (
        "week of",
        "rows",
        "late",
        "expected late",
        "ROC AUC (95%)",
        "expected: counts",
        "by row",
        "NannyML",
        "rang",
    )
    rows = (
        [
            str(AUTUMN + np.timedelta64(7 * week.window, "D").astype(object)),
            f"{week.rows:,}",
            f"{week.late:.3f}",
            f"{week.expected_late:.3f}",
            f"{week.auc.value:.3f} ({week.auc.low:.3f} to {week.auc.high:.3f})",
            f"{week.of_counts:.3f}",
            f"{week.of_rows:.3f}",
            f"{theirs[week.window][3]:.3f}",
            "yes" if theirs[week.window][6] else "no",
        ]
        for week in results.ours.weeks
    )
    test, days = results.ours.test, results.ours.days
    late = sum(day.late * day.rows for day in days) / sum(day.rows for day in days)
    months = ", ".join(f"{month} {share:.3f}" for month, share in results.ours.if_months.items())
    worse = ", ".join(f"{name} {len(days)}" for name, days in sorted(results.ours.worse.items()))
    return (
        f"{_table(head, rows)}\n\nOn the test rows of training it was {test.value:.3f} ({test.low:.3f} to "
        f"{test.high:.3f}). Had every label come at once, `HornpipeQualityDown` would have held at the end of this "
        f"many of {len(days)} days, by metric: {worse}.\n\nThe share of late flights that the model expects of every "
        f"eighth flight of autumn, were it of another month: {months}; true is {late:.3f}."
    )


def _cost(results: Results) -> Iterator[list[str]]:
    """In one go, which is how they are fastest; and a day at a time, when each day's run is a process of its own."""
    cost = results.ours.cost
    day = cost.judge_seconds / cost.windows + DAY_ROWS * cost.row_microseconds / 1e6
    state = f"{(cost.state_bytes + cost.history_bytes) / 1000:.0f} kB of state"
    yield ["Hornpipe", f"{cost.seconds:.2f}", "1", f"{day:.4f}", "1", state]
    for tool, found in results.theirs.items():
        go, one = _in_one_go(results, tool), _one_day(results, tool)
        memory = f"{found['memory']['peak_mb']:,.0f} MB ({found['memory']['imported_mb']:,.0f} when imported)"
        ratios = f"{go / cost.seconds:,.0f}", f"{one / day:,.0f}"
        yield [TITLES[tool], f"{go:,.1f}", ratios[0], f"{one:.1f}", ratios[1], memory]


def _in_one_go(results: Results, tool: str) -> float:
    """CPU seconds of all days and weeks of autumn; those that were not asked about are taken to cost as much."""
    seconds = results.theirs[tool]["seconds"]
    days = AUTUMN_DAYS / len(results.verdicts(tool, "autumn", "day")[SCORE])
    judged = {period: _sum(seconds, f"autumn {period}") for period in PERIODS}
    return _sum(seconds, "fit") + seconds.get("reference", 0.0) + judged["day"] * days + judged["week"]


def _one_day(results: Results, tool: str) -> float:
    """CPU seconds of a run that begins with Python and ends with the verdict on one day: import, reference, window."""
    found = results.theirs[tool]
    days = len(results.verdicts(tool, "autumn", "day")[SCORE])
    fit = _sum(found["seconds"], "fit day") + found["seconds"].get("reference", 0.0)
    return float(found["import_seconds"]) + fit + _sum(found["seconds"], "autumn day") / days


def _sum(seconds: Mapping[str, float], which: str) -> float:
    """Of drift: estimated quality is not part of the comparison."""
    return sum(each for name, each in seconds.items() if name.startswith(which) and not name.endswith("cbpe"))


def _more(results: Results) -> str:
    cost, facts = results.ours.cost, results.ours.facts
    each = cost.judge_seconds / cost.windows
    asked = sum(rows for name, rows in facts["rows"].items() if name != "train")
    return (
        f"Counting is {cost.row_microseconds:.2f} µs a row, judging {each * 1000:.2f} ms a window; a day of 900 rows "
        f"is {(each + 900e-6 * cost.row_microseconds) * 1000:.1f} ms. The whole replay, "
        f"{asked:,} rows in {facts['scrapes']:,} requests with a scrape of {facts['page_bytes'] / 1000:.0f} kB after "
        f"each, took {facts['seconds']:.0f} CPU seconds of the service, which then had {facts['resident_mb']:.0f} MB "
        "resident. Between the service's own "
        f"`GET /models/flights/drift` and what was computed of its counters, no PSI differed by more than "
        f"{facts['endpoint_differs_by']:.1g}."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    aligned = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, aligned, *rows))
