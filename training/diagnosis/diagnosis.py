"""The doctor's findings on a terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from contract.evidence import Finding
from training.diagnosis.advice import number

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 32
_COLOURS = {"warning": "yellow", "error": "red"}


def table(findings: Sequence[Finding]) -> RenderableType:
    """Each finding with its curve, the numbers it goes by, its cause, and the line that would fix it."""
    if not findings:
        return Text("✓ the doctor finds nothing wrong", style="green")
    return Group(*(_finding(finding) for finding in findings))


def sparkline(series: Sequence[tuple[float, float]], width: int = WIDTH) -> str:
    """The (step, value) points as bars of eight heights from the least value to the greatest, each bar the mean of the
    points in its part of the steps."""
    if not series:
        return ""
    first, last = series[0][0], series[-1][0]
    columns: dict[int, list[float]] = {}
    for step, value in series:
        at = (step - first) / (last - first) if last > first else 0.0
        columns.setdefault(min(int(at * width), width - 1), []).append(value)
    means = [sum(values) / len(values) for _, values in sorted(columns.items())]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def _finding(finding: Finding) -> RenderableType:
    colour = _COLOURS[finding.severity]
    where = f" in layer {finding.layer}" if finding.layer else ""
    title = Text.assemble(
        (f"{finding.severity} ", f"bold {colour}"),
        (finding.rule.replace("_", " "), "bold"),
        (f"{where}, step {finding.step}", "dim"),
    )
    evidence = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in finding.evidence.items())
    lines = [
        Text(finding.cause),
        Text(f"{sparkline(finding.series)}  {evidence}".strip(), style="dim"),
        Text.assemble("try ", (finding.fix.removeprefix("# "), "bold")),
    ]
    return Group(title, *(Padding(line, (0, 0, 0, 2)) for line in lines))
