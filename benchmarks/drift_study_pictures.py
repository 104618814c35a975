"""The pictures of docs/studies/flights-drift.md."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from benchmarks.drift_study_data import AUTUMN
from benchmarks.drift_study_results import HORNPIPE, Results
from benchmarks.drift_study_verdicts import PERIODS, Verdict

DOCS = Path(__file__).resolve().parents[1] / "docs" / "studies"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
DPI = 80
TITLES = {"hornpipe": "Hornpipe", "evidently": "Evidently", "nannyml": "NannyML"}
SCORE, DATASET = "probability", "dataset"
KINDS = {"autumn": "autumn", "control": "no drift", "in_order": "January to July"}
CONTROL_OF_SCORE = "control_outputs"
AUTUMN_DAYS = 122


def draw(results: Results) -> None:
    """All of them, under docs/studies."""
    DOCS.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        _save(_heat(results), "flights-drift-psi.png")
        _save(_quality(results), "flights-drift-auc.png")
        _save(_tools(results), "flights-drift-tools.png")


def _save(figure: Figure, name: str) -> None:
    """In 64 colours: a third of the bytes."""
    drawn = BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(64).save(DOCS / name, optimize=True)


def _heat(results: Results) -> Figure:
    """PSI of every day and week, with a dot where the alert over that window rings."""
    figure = Figure(figsize=(12.5, 6.5), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(5, 2))
    names = [*_by_first_alarm(results), *results.ours.outputs]
    for axis, period, window in zip(axes, PERIODS, ("24h", "7d"), strict=True):
        values = _matrix(results.verdicts(HORNPIPE, "autumn", period), names, lambda each: each.value)
        edges = np.arange(values.shape[1] + 1) * PERIODS[period] / 24
        image = axis.pcolormesh(
            edges, np.arange(len(names) + 1), values, norm=LogNorm(0.01, 10, clip=True), cmap="YlOrRd", rasterized=True
        )
        rings = np.array([_rings(results, name, window, edges) for name in names])
        at, of = np.nonzero(rings)
        axis.scatter((edges[of] + edges[of + 1]) / 2, at + 0.5, s=5 if period == "day" else 14, color="black")
        _months(axis, edges[-1])
        axis.axhline(len(results.ours.features), color="white", linewidth=3)
        axis.set(yticks=np.arange(len(names)) + 0.5, yticklabels=names, title=f"PSI of each {period}")
    axes[0].invert_yaxis()
    figure.colorbar(image, ax=axes, label="PSI; a dot: the alert over as long a window rings")
    return figure


def _by_first_alarm(results: Results) -> list[str]:
    first = dict.fromkeys(results.ours.features, math.inf)
    for each in results.ours.ringing:
        if each.stream == "autumn" and each.series in first:
            first[each.series] = min(first[each.series], each.begins)
    return sorted(first, key=lambda name: first[name])


def _rings(results: Results, name: str, window: str, edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the alert rings at any moment of each period that `edges` begin and end, in days."""
    found = np.zeros(len(edges) - 1, bool)
    for each in results.ours.ringing:
        if (each.stream, each.series, each.window) == ("autumn", name, window):
            ends = edges[-1] if each.ends is None else each.ends / 24
            found |= (edges[:-1] < ends) & (edges[1:] > each.begins / 24)
    return found


def _matrix(
    found: Mapping[str, Mapping[int, Verdict]], names: Sequence[str], of: Callable[[Verdict], float]
) -> NDArray[np.float64]:
    windows = 1 + max((max(each) for each in found.values() if each), default=0)
    filled = np.full((len(names), windows), np.nan)
    for i, name in enumerate(names):
        for window, each in found.get(name, {}).items():
            filled[i, window] = of(each)
    return filled


def _months(axes: Axes, days: float) -> None:
    """Ticks at the first of each month."""
    firsts = [i for i in range(int(days)) if (AUTUMN + timedelta(days=i)).day == 1]
    axes.set_xticks(firsts, [(AUTUMN + timedelta(days=i)).strftime("1 %b") for i in firsts])


def _quality(results: Results) -> Figure:
    """What was true each week, and what was expected."""
    figure = Figure(figsize=(10, 6.5), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    weeks, test = results.ours.weeks, results.ours.test
    middle = [7 * each.window + 3.5 for each in weeks]
    auc = np.array([each.auc.value for each in weeks])
    ends = np.array([[each.auc.value - each.auc.low, each.auc.high - each.auc.value] for each in weeks]).T
    above.axhspan(test.low, test.high, color="tab:green", alpha=0.2, label="test rows, 16 to 31 August (95%)")
    above.errorbar(middle, auc, ends, fmt="o", color="black", capsize=3, label="true, with 95% interval")
    above.plot(middle, [each.of_counts for each in weeks], color="tab:blue", label="expected: Hornpipe, from counts")
    above.plot(middle, [each.of_rows for each in weeks], ":", color="tab:blue", label="expected: Hornpipe, by row")
    theirs = {each[2]: each[3] for each in results.theirs["nannyml"]["estimates"] if each[:2] == ["autumn", "week"]}
    above.plot(
        middle, [theirs[each.window] for each in weeks], "--", color="tab:orange", label="expected: NannyML, CBPE"
    )
    above.set(ylabel="ROC AUC by week")
    above.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    below.plot(middle, [each.late for each in weeks], "o-", color="black", label="true")
    below.plot(middle, [each.expected_late for each in weeks], color="tab:blue", label="expected of the scores")
    below.set(ylabel="share of late flights", ylim=(0, None))
    below.legend(loc="upper center")
    _months(below, AUTUMN_DAYS)
    return figure


def _tools(results: Results) -> Figure:
    """Every verdict of every tool on every week: of autumn, of rows without drift, and of January to July."""
    figure = Figure(figsize=(12.5, 10), dpi=DPI, layout="constrained")
    found = {tool: [of_kind(results, tool, kind, "week") for kind in KINDS] for tool in results.tools}
    widths = [len(each[SCORE]) for each in found[HORNPIPE][:2]] + [len(found[HORNPIPE][2]["month"])]
    axes = figure.subplots(len(results.tools), len(KINDS), sharey=True, sharex="col", width_ratios=widths)
    names = [*_by_first_alarm(results), SCORE]
    for row, tool in zip(axes, results.tools, strict=True):
        for axis, verdicts, kind in zip(row, found[tool], KINDS.values(), strict=True):
            drifted = _matrix(verdicts, names, lambda each: each.drifted)
            axis.pcolormesh(drifted, cmap=ListedColormap(["#dfe7ec", "#b2182b"]), vmin=0, vmax=1, rasterized=True)
            axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
            axis.set_title(f"{TITLES[tool]}: {kind}", loc="left")
            axis.set_xlabel(f"weeks; {np.nansum(drifted):.0f} of {np.isfinite(drifted).sum()} verdicts: drift")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].invert_yaxis()
    return figure


def of_kind(results: Results, tool: str, kind: str, period: str) -> dict[str, dict[int, Verdict]]:
    """Of the control, the inputs of rows like the training rows, and the score of rows like the validation rows; the
    score has no part in January to July, where its baseline is not from."""
    if kind == "autumn":
        return results.verdicts(tool, kind, period)
    inputs = results.verdicts(tool, kind, period)
    found = {name: inputs[name] for name in (*results.ours.features, DATASET) if name in inputs}
    return found | ({SCORE: results.verdicts(tool, CONTROL_OF_SCORE, period)[SCORE]} if kind == "control" else {})
