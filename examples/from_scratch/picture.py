"""The curves of a run as one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Told apart with any colour vision (Okabe and Ito, https://jfly.uni-koeln.de/color/).
COLORS = ("#0072B2", "#D55E00", "#009E73")

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """A title, and loss curves by name: one number for each epoch."""

    title: str
    curves: Mapping[str, Sequence[float]]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write the panels side by side to `path`, in the format of its suffix; the same curves make the same SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, in one font, and no name is random: a small file, and the same one for the same curves.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves", "font.sans-serif": "DejaVu Sans"}):
        figure = Figure(figsize=(3 * len(panels), 3), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, panels, strict=True):
            _draw(axis, panel)
        axes[0].set_ylabel("loss (cross-entropy)")
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(axis: "Axes", panel: Panel) -> None:
    for color, (name, losses) in zip(COLORS, panel.curves.items(), strict=False):
        axis.plot(losses, color=color, label=name)
    axis.set_yscale("log")  # from 0.2 to 0.1 is as much learning as from 2 to 1
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(loc="lower left", frameon=False)
    axis.set_title(panel.title, loc="left", fontsize=9)
    axis.set_xlabel("epoch")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
