"""The pictures of the report, as SVG that takes its colours from the page: dark on light, light on dark.

matplotlib draws with placeholder colours; each becomes a CSS variable afterwards. Text stays text, in the page's font.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from contract.evidence import Metric
from training.results import FeatureSummary, Points, Reliability
from training.signals import Record

# Placeholders that no drawing has by itself; the page says what they are in its light and dark dress.
COLOURS = {
    "ink": "#010203",
    "muted": "#040506",
    "grid": "#070809",
    "accent": "#0a0b0c",
    "second": "#0d0e0f",
    "good": "#101112",
    "bad": "#131415",
    "third": "#161718",
}
INK, MUTED, GRID, ACCENT, SECOND, GOOD, BAD, THIRD = COLOURS.values()
SERIES = (ACCENT, SECOND, GOOD, BAD, THIRD, MUTED)

STYLE: Any = {  # a dict that matplotlib types key by key
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.prop_cycle": f"cycler('color', {list(SERIES)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}

Axes = Any  # matplotlib's own, without type information


@contextmanager
def _figure(name: str, width: float, height: float) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on, and a list that holds the SVG afterwards. `name` keeps its ids apart from others'."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        drawn: list[str] = []
        yield figure.subplots(), drawn
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn.append(_themed(buffer.getvalue()))


def _themed(svg: str) -> str:
    """Placeholders become CSS variables; what only a file needs is cut off; the size is the page's matter."""
    svg = svg[svg.index("<svg") :]
    for name, placeholder in COLOURS.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([^;\"]*?)'[^\"]*?'[^;\"]*", r"font: \1inherit", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', svg, count=1)


def _drawn(name: str, width: float, height: float, draw: Callable[[Axes], None]) -> str:
    with _figure(name, width, height) as (axes, drawn):
        draw(axes)
    return drawn[0]


def loss(record: Record) -> str:
    """Training loss, and the losses on validation and on as many training rows at each evaluation."""

    def draw(axes: Axes) -> None:
        if record.losses:
            axes.plot(*_columns(record.losses), color=GRID, label="training, with dropout")
        steps = [each.step for each in record.evaluations]
        if any(each.sample_loss is not None for each in record.evaluations):
            axes.plot(steps, [each.sample_loss for each in record.evaluations], color=SECOND, label="training rows")
        axes.plot(steps, [each.validation_loss for each in record.evaluations], color=ACCENT, label="validation rows")
        _mark_best(axes, record, [each.validation_loss for each in record.evaluations])
        for step in record.rollbacks:
            axes.axvline(step, color=BAD, linestyle=":", linewidth=1)
        axes.set(xlabel="step", ylabel="loss")
        axes.legend()

    return _drawn("loss", 5.2, 3, draw)


def monitored(record: Record, metric: str) -> str:
    """The metric that early stopping watches."""

    def draw(axes: Axes) -> None:
        steps = [each.step for each in record.evaluations]
        axes.plot(steps, [each.train_monitor for each in record.evaluations], color=SECOND, label="training rows")
        axes.plot(steps, [each.monitor for each in record.evaluations], color=ACCENT, label="validation rows")
        _mark_best(axes, record, [each.monitor for each in record.evaluations])
        axes.set(xlabel="step", ylabel=metric.replace("_", " "))
        axes.legend()

    return _drawn("monitored", 5.2, 3, draw)


def _mark_best(axes: Axes, record: Record, values: Sequence[float]) -> None:
    best = [i for i, each in enumerate(record.evaluations) if each.best]
    if best:
        axes.plot(record.evaluations[best[-1]].step, values[best[-1]], "o", color=ACCENT, label="kept")


def learning_rate(record: Record) -> str:
    """The learning rate at each probe."""

    def draw(axes: Axes) -> None:
        axes.plot([each.step for each in record.probes], [each.learning_rate for each in record.probes], color=ACCENT)
        axes.set(xlabel="step", ylabel="learning rate")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))

    return _drawn("learning-rate", 5.2, 3, draw)


def range_test(points: Points, chosen: float | None) -> str:
    """Loss by learning rate, in the range test."""

    def draw(axes: Axes) -> None:
        axes.plot(*_columns(points), color=ACCENT)
        if chosen is not None:
            axes.axvline(chosen, color=SECOND, linestyle="--", label=f"chosen: {chosen:.2g}")
            axes.legend()
        axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss")

    return _drawn("range-test", 5.2, 3, draw)


def gradients(record: Record) -> str:
    """The global gradient norm, and by how much each layer moves relative to its weights."""

    def draw(axes: Axes) -> None:
        steps = [each.step for each in record.probes]
        axes.plot(
            steps, [max(each.gradient_norm, 1e-12) for each in record.probes], color=ACCENT, label="gradient norm"
        )
        ratios = [
            float(np.median(moves))
            if (moves := [layer.update / layer.weight for layer in each.layers if layer.update and layer.weight])
            else np.nan
            for each in record.probes
        ]
        axes.plot(steps, ratios, color=SECOND, label="update / weight, median layer")
        axes.set(yscale="log", xlabel="step")
        axes.legend()

    return _drawn("gradients", 5.2, 3, draw)


def sparkline(name: str, points: Points) -> str:
    """A small line without axes; its last point is marked."""

    def draw(axes: Axes) -> None:
        x, y = _columns(points)
        axes.plot(x, y, color=BAD, linewidth=1.4)
        axes.plot(x[-1:], y[-1:], "o", color=BAD, markersize=3)
        axes.set_axis_off()

    return _drawn(f"spark-{name}", 2.2, 0.6, draw)


def intervals(name: str, rows: Mapping[str, Metric], label: str, *, highlight: str | None = None) -> str:
    """Values with their intervals, one a line; a dashed line goes through the one that is highlighted."""

    def draw(axes: Axes) -> None:
        for i, (each, metric) in enumerate(rows.items()):
            colour = ACCENT if each == highlight or highlight is None else MUTED
            axes.plot([metric.low, metric.high], [i, i], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot([metric.value], [i], "o", color=colour, markersize=5)
        if highlight is not None:
            axes.axvline(rows[highlight].value, color=ACCENT, linestyle=":", linewidth=1)
        axes.set_yticks(range(len(rows)), [_short(each, 48) for each in rows])
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")

    return _drawn(name, 6.5, 0.7 + 0.26 * max(len(rows), 2), draw)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows are the true classes, columns the predicted ones; shades are shares of the true class."""

    def draw(axes: Axes) -> None:
        counts = np.array(matrix, float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for (i, j), share in np.ndenumerate(shares):
            colour = ACCENT if i == j else BAD
            axes.add_patch(_square(j, i, colour, float(share)))
            if len(classes) <= 12:
                axes.text(j, i, f"{share:.0%}\n{counts[i, j]:,.0f}" if len(classes) <= 5 else f"{counts[i, j]:,.0f}",
                          ha="center", va="center", fontsize=9 if len(classes) <= 5 else 7)  # fmt: skip
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
        names = [_short(each, 14) for each in classes]
        axes.set_xticks(range(len(classes)), names, rotation=0 if len(classes) <= 4 else 60)
        axes.set_yticks(range(len(classes)), names)
        axes.set(xlabel="predicted", ylabel="true")
        axes.grid(visible=False)

    side = 3.2 if len(classes) <= 5 else 4.6
    return _drawn("confusion", side + 0.6, side, draw)


def _square(x: int, y: int, colour: str, share: float) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, alpha=0.06 + 0.5 * share, linewidth=0)


def curves(name: str, lines: Mapping[str, Points], x: str, y: str, *, diagonal: bool = False) -> str:
    """One line a class; of many classes, those that fit the legend have a name."""

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=GRID, linestyle="--")
        for i, (label, points) in enumerate(lines.items()):
            shown = _short(label, 16) if len(lines) > 1 and i < len(SERIES) else None
            axes.plot(*_columns(points), color=SERIES[i % len(SERIES)], label=shown, alpha=1 if len(lines) < 4 else 0.8)
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        if len(lines) > 1:
            axes.legend(fontsize=7)

    return _drawn(name, 3.8, 3.2, draw)


def reliability(found: Reliability) -> str:
    """Predicted against observed, before and after temperature scaling; a dot's area is its share of the rows."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linestyle="--")
        versions = [("calibrated", found.after, ACCENT)]
        if found.temperature != 1:
            versions.insert(0, ("before", found.before, MUTED))
        for label, bins, colour in versions:
            total = max(sum(each.rows for each in bins), 1)
            axes.plot([b.predicted for b in bins], [b.observed for b in bins], color=colour, label=label)
            sizes = [4 + 160 * b.rows / total for b in bins]
            axes.scatter([b.predicted for b in bins], [b.observed for b in bins], s=sizes, color=colour)
        axes.set(xlabel="predicted probability", ylabel="share that came true")
        if len(versions) > 1:
            axes.legend()

    return _drawn("reliability", 3.8, 3.2, draw)


def residuals(points: Points) -> str:
    """Predicted value against what was missed."""

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.scatter(*_columns(points), s=6, color=ACCENT, alpha=0.4, linewidth=0)
        axes.set(xlabel="predicted", ylabel="true - predicted")

    return _drawn("residuals", 5.2, 3.2, draw)


def distribution(feature: FeatureSummary) -> str:
    """Shares by bin on training rows (filled) and on test rows (line)."""

    def draw(axes: Axes) -> None:
        x = range(len(feature.bins))
        axes.bar(x, feature.train, color=ACCENT, alpha=0.35, width=0.9, linewidth=0)
        axes.step(x, feature.test, where="mid", color=SECOND, linewidth=1.3)
        axes.set_xticks(*_sparse_ticks(feature.bins), rotation=0, fontsize=7)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)

    return _drawn(f"feature-{feature.name}", 2.6, 1.2, draw)


def _sparse_ticks(bins: Sequence[str]) -> tuple[list[int], list[str]]:
    """The first bin, the middle one and the last."""
    places = sorted({0, len(bins) // 2, len(bins) - 1})
    return places, [_short(bins[i].split("..")[0].lstrip("="), 9) for i in places]


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def overlaid(name: str, lines: Mapping[str, Points], label: str) -> str:
    """The same curve of several runs."""

    def draw(axes: Axes) -> None:
        for (version, points), colour in zip(lines.items(), SERIES, strict=False):
            axes.plot(*_columns(points), color=colour, label=version, marker="." if len(points) == 1 else None)
        axes.set(xlabel="step", ylabel=label)
        axes.legend()

    return _drawn(name, 5.2, 3, draw)
