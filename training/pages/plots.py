"""The pictures of the report, as SVG that takes its colours from the page: dark on light, light on dark.

matplotlib draws with placeholder colours; each becomes a CSS variable afterwards. Text stays text, in the page's font,
and what looks like a formula in a name is not taken for one.
"""

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from training.diagnosis.signals import Record
from training.exporting.results import FeatureSummary, Points, Reliability

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
SERIES = (ACCENT, SECOND, GOOD, BAD, THIRD)

STYLE: Any = {  # a dict that matplotlib types key by key
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}

# Inches of 72 units. Text of 9 units is about 10 pixels high on a phone and 12 beside another picture on a desk.
WIDE, SQUARE = (4.4, 2.7), (4.0, 3.4)
MOST_NUMBERED, MOST_LARGE = 12, 5  # classes of a confusion matrix with numbers in its cells, and with shares too

Axes = Any  # matplotlib's own, without type information


@contextmanager
def _figure(name: str, size: tuple[float, float]) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on, and a list that holds the SVG afterwards. `name` keeps its ids apart from others'."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # From matplotlib's defaults, whatever the machine's own settings: the same numbers give the same picture.
    with style.context(["default", STYLE | {"svg.hashsalt": name}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's font has it
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        drawn: list[str] = []
        yield figure.subplots(), drawn
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn.append(_themed(buffer.getvalue(), name))


def _themed(svg: str, name: str) -> str:
    """Placeholders become CSS variables; what only a file needs is cut off; the size is the page's matter."""
    box = re.search(r'viewBox="[^"]*"', svg)
    start, end = svg.index("<defs>"), svg.rindex("</svg>")
    body = re.sub(r'<style type="text/css">.*?</style>', "", svg[start:end], flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # the same in every picture; those of <defs> are not
    body = re.sub(r"font-family: [^;\"]*; ", "", body).replace("xlink:href=", "href=")
    for colour, placeholder in COLOURS.items():
        body = body.replace(placeholder, f"var(--{colour})")
    label = html.escape(_short(name.replace("-", " "), 80))
    return f'<svg role="img" aria-label="{label}" {box.group() if box else ""}>{body}</svg>'


def _drawn(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    with _figure(name, size) as (axes, drawn):
        draw(axes)
    return drawn[0]


def loss(record: Record) -> str:
    """Training loss, and the losses on validation and on as many training rows at each evaluation."""

    def draw(axes: Axes) -> None:
        if record.losses:
            axes.plot(*_columns(record.losses), color=MUTED, alpha=0.45, linewidth=1, label="while training")
        steps = [each.step for each in record.evaluations]
        if any(each.sample_loss is not None for each in record.evaluations):
            axes.plot(steps, [each.sample_loss for each in record.evaluations], color=SECOND, label="training rows")
        axes.plot(steps, [each.validation_loss for each in record.evaluations], color=ACCENT, label="validation rows")
        _mark_best(axes, record, [each.validation_loss for each in record.evaluations])
        for i, step in enumerate(record.rollbacks):
            axes.axvline(step, color=BAD, linestyle=":", linewidth=1, label="" if i else "went back")
        axes.set(xlabel="step", ylabel="loss")
        axes.legend()

    return _drawn("loss", WIDE, draw)


def monitored(record: Record, metric: str) -> str:
    """The metric that early stopping watches, by its name for people."""

    def draw(axes: Axes) -> None:
        steps = [each.step for each in record.evaluations]
        axes.plot(steps, [each.train_monitor for each in record.evaluations], color=SECOND, label="training rows")
        axes.plot(steps, [each.monitor for each in record.evaluations], color=ACCENT, label="validation rows")
        _mark_best(axes, record, [each.monitor for each in record.evaluations])
        axes.set(xlabel="step", ylabel=metric)
        axes.legend()

    return _drawn("monitored", WIDE, draw)


def _mark_best(axes: Axes, record: Record, values: Sequence[float]) -> None:
    best = [i for i, each in enumerate(record.evaluations) if each.best]
    if best:
        axes.plot(record.evaluations[best[-1]].step, values[best[-1]], "o", color=ACCENT, label="kept")


def learning_rate(record: Record) -> str:
    """The learning rate at each probe."""

    def draw(axes: Axes) -> None:
        rates = [each.learning_rate for each in record.probes]
        axes.plot([each.step for each in record.probes], rates, color=ACCENT)
        axes.set(xlabel="step", ylabel="learning rate", ylim=(0, 1.08 * max(rates) or 1))
        axes.yaxis.set_major_formatter(_plain)

    return _drawn("learning-rate", WIDE, draw)


def range_test(points: Points, chosen: float | None) -> str:
    """Loss by learning rate, in the range test."""

    def draw(axes: Axes) -> None:
        axes.plot(*_columns(points), color=ACCENT)
        if chosen is not None:
            axes.axvline(chosen, color=SECOND, linestyle="--", label=f"chosen: {chosen:.2g}")
            axes.legend()
        axes.set(xlabel="learning rate", ylabel="smoothed loss")
        _logarithmic(axes, "x")

    return _drawn("range-test", WIDE, draw)


def gradients(record: Record) -> str:
    """The global gradient norm, and by how much each layer moves relative to its weights."""

    def draw(axes: Axes) -> None:
        steps = [each.step for each in record.probes]
        norms = [max(each.gradient_norm, 1e-12) for each in record.probes]
        axes.plot(steps, norms, color=ACCENT, label="gradient norm")
        ratios = [
            float(np.median(moves))
            if (moves := [layer.update / layer.weight for layer in each.layers if layer.update and layer.weight])
            else np.nan
            for each in record.probes
        ]
        axes.plot(steps, ratios, color=SECOND, label="update / weight, median layer")
        axes.set(xlabel="step")
        _logarithmic(axes, "y")
        axes.legend()

    return _drawn("gradients", WIDE, draw)


def sparkline(name: str, points: Points) -> str:
    """A small line with its range and its steps; the last point is marked."""

    def draw(axes: Axes) -> None:
        x, y = _columns(points)
        axes.plot(x, y, color=BAD, linewidth=1.4)
        axes.plot(x[-1:], y[-1:], "o", color=BAD, markersize=3)
        axes.set_xticks(sorted({x[0], x[-1]}) if x else [])
        finite = [value for value in y if np.isfinite(value)]
        axes.set_yticks(sorted({min(finite), max(finite)}) if finite else [])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(_plain)
        axes.grid(visible=False)
        axes.tick_params(labelsize=8)

    return _drawn(f"evidence-{name}", (2.6, 1.0), draw)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows are the true classes, columns the predicted ones; shades are shares of the true class."""
    large = len(classes) <= MOST_LARGE

    def draw(axes: Axes) -> None:
        counts = np.array(matrix, float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for (i, j), share in np.ndenumerate(shares):
            axes.add_patch(_square(j, i, ACCENT if i == j else BAD, float(share)))
            if len(classes) <= MOST_NUMBERED and (large or counts[i, j]):
                text = f"{share:.0%}\n{counts[i, j]:,.0f}" if large else _brief(float(counts[i, j]))
                axes.text(j, i, text, ha="center", va="center", fontsize=9 if large else 8)
        names = [_short(each, 14) for each in classes]
        axes.set_xticks(range(len(classes)), names)
        axes.set_yticks(range(len(classes)), names)
        if max(map(len, names)) * len(names) > 46:  # letters in a row below
            axes.tick_params("x", labelrotation=60)
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
        axes.set(xlabel="predicted", ylabel="true")
        axes.grid(visible=False)
        axes.tick_params(length=0, labelsize=9 if len(classes) <= MOST_NUMBERED else 6)

    return _drawn("confusion", SQUARE if large else (4.4, 4.2), draw)


def _square(x: int, y: int, colour: str, share: float) -> object:
    from matplotlib.patches import Rectangle

    alpha = 0.06 + 0.5 * share if share else 0.03
    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, alpha=alpha, linewidth=0)


def _brief(count: float) -> str:
    return f"{count:.0f}" if count < 10_000 else f"{count / 1000:,.0f}k"


def curves(name: str, lines: Mapping[str, Points], x: str, y: str, *, diagonal: bool = False) -> str:
    """One line a class; of many classes, only those with the least area under them have a colour and a name."""
    areas = {label: _area(points) for label, points in lines.items()}
    named = sorted(sorted(lines, key=lambda label: areas[label])[: len(SERIES)], key=list(lines).index)

    def draw(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=GRID, linestyle="--")
        for label, points in lines.items():
            if label not in named:
                axes.plot(*_columns(points), color=MUTED, alpha=0.4, linewidth=1)
        for label, colour in zip(named, SERIES, strict=False):
            axes.plot(*_columns(lines[label]), color=colour, label=_shown(_short(label, 20)))
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        if len(lines) > 1:
            axes.legend(title=f"the worst of {len(lines)}" if len(lines) > len(SERIES) else None, title_fontsize=8)

    return _drawn(name, SQUARE, draw)


def _area(points: Points) -> float:
    x, y = _columns(points)
    return float(np.trapezoid(y, x)) if len(points) > 1 else 0.0


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
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        if len(versions) > 1:
            axes.legend()

    return _drawn("reliability", SQUARE, draw)


def residuals(points: Points, half_width: float | None) -> str:
    """Predicted value against what was missed; the band is the prediction interval."""

    def draw(axes: Axes) -> None:
        if half_width is not None:
            axes.axhspan(-half_width, half_width, color=ACCENT, alpha=0.08, linewidth=0)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.scatter(*_columns(points), s=7, color=ACCENT, alpha=0.5, linewidth=0)
        axes.set(xlabel="predicted", ylabel="true - predicted")

    return _drawn("residuals", WIDE, draw)


def distribution(feature: FeatureSummary) -> str:
    """Shares by bin on training rows (filled) and on test rows (line)."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(feature.bins))
        colours = [ACCENT if ".." in each or each.startswith("=") else MUTED for each in feature.bins]
        axes.bar(places, feature.train, color=colours, alpha=0.38, width=0.9, linewidth=0)
        axes.stairs(feature.test, np.arange(len(feature.bins) + 1) - 0.5, color=SECOND, linewidth=1.4)
        axes.set_xticks(*_ticks(feature.bins), fontsize=8)
        axes.set_yticks([])
        axes.set(xlim=(-0.6, len(feature.bins) - 0.4), ylim=(0, None))
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=2)

    return _drawn(f"feature-{feature.name}", (2.0, 1.05), draw)


def _ticks(bins: Sequence[str]) -> tuple[list[float], list[str]]:
    """A name for the first bin, the middle one and the last: its own, or where it begins (the last one ends)."""
    ticks: dict[float, str] = {}
    for i in sorted({0, len(bins) // 2, len(bins) - 1}):
        low, apart, high = bins[i].partition("..") if not bins[i].startswith("=") else (bins[i][1:], "", "")
        if not apart:
            ticks[i] = _short(low.replace("_", " "), 8) if bins[i][0] != "=" else _short(low, 8)
        elif i and i == len(bins) - 1:
            ticks[i + 0.5] = f"{float(high):.4g}"
        else:
            ticks[i - 0.5] = f"{float(low):.4g}"
    return list(ticks), list(ticks.values())


def overlaid(name: str, lines: Mapping[str, Points], label: str) -> str:
    """The same curve of several runs."""

    def draw(axes: Axes) -> None:
        for (version, points), colour in zip(lines.items(), SERIES, strict=False):
            axes.plot(*_columns(points), color=colour, label=version, marker="." if len(points) == 1 else None)
        axes.set(xlabel="step", ylabel=label)
        axes.legend()

    return _drawn(name, WIDE, draw)


def _logarithmic(axes: Axes, which: str) -> None:
    """matplotlib would write powers as formulas."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axes.set(**{f"{which}scale": "log"})
    axis.set_major_formatter(_plain)
    axis.set_minor_formatter("")
    if len(axis.get_majorticklocs()) < 4:  # two of them may lie outside
        axis.set_minor_formatter(lambda value, _: _plain(value) if f"{value:.0e}"[0] in "25" else "")


def _plain(value: float, _: int | None = None) -> str:
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _short(text: str, most: int) -> str:
    """On one line, without what cannot be seen."""
    seen = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return seen if len(seen) <= most else seen[: most - 1] + "…"


def _shown(label: str) -> str:
    """A legend leaves out what begins with an underscore, unless something is before it."""
    return f"\u200b{label}" if label.startswith("_") else label
