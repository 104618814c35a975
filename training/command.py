"""What the training commands do: read what a person typed, run, show what came of it."""

import getpass
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from contract import bundle, pruning, routing
from contract.evidence import Finding, Verdict
from contract.manifest import Manifest
from contract.runtimes import tensorflow
from training import config, promoting
from training.errors import DataError

if TYPE_CHECKING:
    from training.loop.trial import Overfit
    from training.sources.labelled import Exporter

LOG_WIDTH = 110
REFUSED = 3


@dataclass(frozen=True)
class Wishes:
    """Where versions and runs go, and what is asked beside the config. `fresh` starts anew even where a run of the same
    config was stopped; `quick` is a trial that publishes nothing."""

    models: Path
    runs: Path
    promote: bool = False
    fresh: bool = False
    quick: Literal["fast", "overfit"] | None = None


def init(data: Path, target: str | None, output: Path | None) -> int:
    """Write a config for data, or print it."""
    from training.init import inspect

    text = inspect.write(data, target, output)
    if output is None:
        print(text, end="")  # noqa: T201  # it is the answer
    else:
        _console().print(f"[bold]{output}[/]  next: hornpipe train {output} --fast", highlight=False)
    return 0


def train(path: Path, name: str | None, overrides: list[str], wishes: Wishes, logged: "Exporter | None" = None) -> int:
    """Train by a config file and print the result. The config is checked before TensorFlow is even imported. `logged`
    writes the service's rows that `data.labelled` asks for.

    Returns 0 for a version that serves or may, 3 for one that the gate refused.
    """
    checked = config.load(path, overrides, name)
    console = _console()
    console.print(f"[bold]{checked.name}[/] from {path}", highlight=False)
    with console.status("starting TensorFlow ..."):
        tensorflow()
        from training import pipeline
        from training.loop import rehearsal
        from training.progress import TrainingProgress
        from training.report import results_of
    progress = TrainingProgress(console)
    if wishes.quick == "fast":
        rehearsal.fast(checked, progress, logged)
        console.print("everything works; nothing was published", highlight=False)
        return 0
    if wishes.quick == "overfit":
        return _overfit(console, *rehearsal.overfit(checked, progress, logged))
    made = pipeline.run(checked, wishes.models, wishes.runs, progress, fresh=wishes.fresh, logged=logged)
    if (simpler := results_of(made).simpler) is not None:
        console.print(f"[bold yellow]{simpler}[/]", highlight=False)
    show(console, made.manifest)
    return _conclude(console, made, wishes, f"hornpipe train {path}", by_policy=True)


def _overfit(console: Console, learnt: "Overfit", finding: Finding | None) -> int:
    from training.diagnosis.diagnosis import table

    told = f"loss {learnt.final_loss:.4g} on {learnt.rows} rows after {learnt.steps} steps"
    told += f"; always answering the class shares has {learnt.base_loss:.4g}"
    if finding is None:
        console.print(f"the network learns a batch by heart: {told}", highlight=False)
        return 0
    console.print(f"[bold red]the network cannot learn a batch by heart[/]: {told}", highlight=False)
    console.print(table([finding]))
    return 1


def _conclude(console: Console, made: bundle.Bundle, wishes: Wishes, why: str, *, by_policy: bool = False) -> int:
    """A person who says so promotes; else, of what was trained, the policy in its config decides."""
    manifest, verdict = made.manifest, made.manifest.verdict
    console.print(f"report: {made.path / 'report.html'}", highlight=False, soft_wrap=True)
    if verdict is not None and not verdict.passed:
        said = f"[bold red]{made.path} was refused[/]; what serves goes on serving"
        console.print(said, highlight=False, soft_wrap=True)
        return REFUSED
    if wishes.promote:
        routing.promote(wishes.models, manifest.name, manifest.version, by=getpass.getuser(), why=why)
        pruning.keep_by_policy(wishes.models, manifest.name, by=getpass.getuser())
        console.print(f"[bold]{made.path}[/] is production", highlight=False, soft_wrap=True)
    elif by_policy and (introduced := promoting.introduce(wishes.models, made, getpass.getuser())) is not None:
        what = {"promoted": "is production", "canary": "is a canary"}.get(introduced.did, "may serve")
        console.print(f"[bold]{made.path}[/] {what}  {introduced.why}", highlight=False, soft_wrap=True)
    else:
        after = f"hornpipe promote {manifest.name} {manifest.version}"
        console.print(f"[bold]{made.path}[/] may serve  next: {after}", highlight=False, soft_wrap=True)
    return 0


def doctor(run: str, runs: Path) -> int:
    """What is wrong with a run: a folder of one, or the newest run of a model."""
    from training.diagnosis.diagnosis import table
    from training.doctor import examine
    from training.loop.run import Run

    path = Path(run) if Path(run).is_dir() else runs / run
    reading = Run.read(path)
    console = _console()
    console.print(f"[bold]{reading.path}[/]: {reading.status.state}, {reading.record.stopped}", highlight=False)
    console.print(table(examine(reading.record)))
    return 0


def quantize(models: Path, name: str, version: int, variants: list[str] | None, promote: bool) -> int:
    """Make variants of an existing version, as a new one."""
    console = _console()
    with console.status("starting TensorFlow ..."):
        tensorflow()
        from training.exporting import quantization
        from training.progress import TrainingProgress
    made = quantization.quantize(models, name, version, variants, TrainingProgress(console))
    show(console, made.manifest)
    wishes = Wishes(models, Path(), promote=promote)
    return _conclude(console, made, wishes, f"hornpipe quantize {name} {version}")


def report(models: Path, name: str, version: int, show_it: bool) -> int:
    """Print where the page about a version lies, or open it."""
    from training.exporting.results import WITHOUT
    from training.report import REPORT

    found = bundle.read_version(models, name, version)
    path = found.path / REPORT
    if not path.exists():
        raise DataError(str(found.path), [f"has no report: {WITHOUT[found.manifest.task == 'tensors']}"])
    print(path)  # noqa: T201  # it is the answer
    if show_it and not webbrowser.open(path.absolute().as_uri()):
        raise DataError(str(path), ["there is no browser here to open it with"])
    return 0


def compare(models: Path, name: str, first: int, second: int, output: Path | None) -> int:
    """Write the page that puts two versions side by side, and print where."""
    from training.pages.compare import compare

    path = output or Path(f"{name}-{first}-{second}.html")
    bundle.replace_file(path, compare(models, name, first, second).encode())
    print(path)  # noqa: T201  # it is the answer
    return 0


def show(console: Console, manifest: Manifest) -> None:
    """What a person wants to know of a new version, in tables."""
    console.print(comparison(manifest), variants(manifest))
    console.print(f"serves as [bold]{manifest.chosen.variant}[/]: {manifest.chosen.why}", highlight=False)
    if manifest.verdict is not None:
        console.print(gate(manifest.verdict))


def comparison(manifest: Manifest) -> Table:
    """The model beside its baselines, on the same test rows; a line a metric, so that it fits a narrow terminal."""
    table = Table(title=f"{manifest.data.test_rows:,} test rows", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column(f"{manifest.name}/{manifest.version}", style="bold", justify="right")
    table.add_column("95% interval", style="dim")
    for baseline in manifest.baselines:
        table.add_column(baseline.name, justify="right")
    for name, metric in manifest.metrics.items():
        others = [f"{each.metrics[name]:.4f}" if name in each.metrics else "" for each in manifest.baselines]
        table.add_row(name, f"{metric.value:.4f}", f"{metric.low:.4f}..{metric.high:.4f}", *others)
    return table


def variants(manifest: Manifest) -> Table:
    """The executable forms, measured on this machine; of an imported model, whose rows have no labels, without a metric
    but with the number of rows that they were compared on."""
    rows, labelled = manifest.data.test_rows, any(variant.metrics for variant in manifest.variants)
    compared = "" if labelled else f" compared on {rows:,} {'row' if rows == 1 else 'rows'} and"
    table = Table(title=f"variants,{compared} measured here", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("variant", "size", "difference", *([manifest.headline] if labelled else []), "1 row", "32 rows"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for variant in manifest.variants:
        style = "bold" if variant.name == manifest.chosen.variant else "dim" if variant.refused else None
        metric = f"{variant.metrics[manifest.headline]:.4f}" if variant.metrics else ""
        table.add_row(
            variant.name,
            f"{variant.size / 1e6:.2f} MB",
            f"{variant.largest_difference:.2g}",
            *([metric] if labelled else []),
            f"{variant.latency['1'].p50:,.0f} µs",
            f"{variant.latency['32'].p50:,.0f} µs",
            style=style,
        )
    return table


def gate(verdict: Verdict) -> Table:
    """Every reason of the gate."""
    against = f"version {verdict.against}" if verdict.against else "nothing, since nothing serves"
    table = Table(title=f"the gate, against {against}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("check", "", "seen"):
        table.add_column(name)
    for reason in verdict.reasons:
        table.add_row(reason.check, "[green]✓[/]" if reason.passed else "[red]refused[/]", reason.detail)
    return table


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)  # a log has no width of its own
