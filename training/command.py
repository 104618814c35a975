"""`hornpipe train`: run the pipeline, show what came of it, promote if asked."""

import getpass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from contract import routing
from contract.manifest import Manifest
from contract.runtimes import tensorflow
from training import config

LOG_WIDTH = 110


def train(path: Path, models: Path, name: str | None, overrides: list[str], promote: bool) -> int:
    """Train by a config file and print the result. The config is checked before TensorFlow is even imported."""
    checked = config.load(path, overrides, name)
    console = Console()
    if not console.is_terminal:  # a log has no width of its own
        console = Console(width=LOG_WIDTH)
    console.print(f"[bold]{checked.name}[/] from {path}", highlight=False)
    with console.status("starting TensorFlow ..."):
        tensorflow()
        from training import pipeline
        from training.progress import TrainingProgress
    bundle = pipeline.run(checked, models, TrainingProgress(console))
    manifest = bundle.manifest
    console.print(comparison(manifest), variants(manifest))
    console.print(f"serves as [bold]{manifest.chosen.variant}[/]: {manifest.chosen.why}", highlight=False)
    if promote:
        routing.promote(models, manifest.name, manifest.version, by=getpass.getuser(), why=f"hornpipe train {path}")
        console.print(f"[bold]{bundle.path}[/] is production", highlight=False)
    else:
        console.print(
            f"[bold]{bundle.path}[/]  next: hornpipe promote {manifest.name} {manifest.version}", highlight=False
        )
    return 0


def comparison(manifest: Manifest) -> Table:
    """The model beside its baselines, on the same test rows; a line a metric, so that it fits a narrow terminal."""
    table = Table(title=f"{manifest.data.test_rows:,} test rows", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column(f"{manifest.name}/{manifest.version}", style="bold", justify="right")
    table.add_column("95% interval", style="dim")
    for baseline in manifest.baselines:
        table.add_column(baseline.name, justify="right")
    for name, metric in manifest.metrics.items():
        others = [f"{baseline.metrics[name]:.4f}" for baseline in manifest.baselines]
        table.add_row(name, f"{metric.value:.4f}", f"{metric.low:.4f}..{metric.high:.4f}", *others)
    return table


def variants(manifest: Manifest) -> Table:
    """The executable forms, measured on this machine."""
    table = Table(title="variants, measured here", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("variant", "size", "difference", manifest.headline, "1 row", "32 rows"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for variant in manifest.variants:
        style = "bold" if variant.name == manifest.chosen.variant else None
        table.add_row(
            variant.name,
            f"{variant.size / 1e6:.2f} MB",
            f"{variant.largest_difference:.2g}",
            f"{variant.metrics[manifest.headline]:.4f}",
            f"{variant.latency['1'].p50:,.0f} µs",
            f"{variant.latency['32'].p50:,.0f} µs",
            style=style,
        )
    return table
