"""What `hornpipe import` does: import, show what came of it, promote."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from contract import routing
from contract.bundle import Bundle
from contract.manifest import Manifest
from contract.runtimes import tensorflow
from contract.signature import UNKNOWN, TensorSpec
from training.command import variants

LOG_WIDTH = 110


def import_model(
    source: Path,
    name: str,
    models: Path,
    *,
    sample: Path | None = None,
    signature: str | None = None,
    tolerance: float | None = None,
    unsafe: bool = False,
    promoted_by: str | None = None,
) -> int:
    """Import a model as the next version of `name`, and print what it takes, answers and serves as. Whoever it is
    promoted by makes it production."""
    console = Console()
    console = console if console.is_terminal else Console(width=LOG_WIDTH)  # a log has no width of its own
    with console.status("starting TensorFlow ..."):
        tensorflow()
        from training.importing import importing
        from training.importing.manifest import TOLERANCE, Import
        from training.progress import TrainingProgress
    asked = Import(source, name, sample, signature, TOLERANCE if tolerance is None else tolerance, unsafe)
    made = importing.run(asked, models, TrainingProgress(console))
    console.print(tensors(made.manifest), variants(made.manifest))
    console.print(
        f"serves as [bold]{made.manifest.chosen.variant}[/]: {made.manifest.chosen.why}",
        highlight=False,
        soft_wrap=True,
    )
    _conclude(console, made, models, promoted_by)
    return 0


def tensors(manifest: Manifest) -> Table:
    """Inputs and outputs by name."""
    table = Table(title=f"{manifest.name}/{manifest.version}", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("", "name", "type", "shape"):
        table.add_column(column)
    for kind, specs in (("takes", manifest.signature.inputs), ("answers", manifest.signature.outputs)):
        for i, spec in enumerate(specs):
            table.add_row(kind if i == 0 else "", spec.name, spec.dtype, _shape(spec))
    return table


def _shape(spec: TensorSpec) -> str:
    return " x ".join(["rows", *("any" if size == UNKNOWN else str(size) for size in spec.row)])


def _conclude(console: Console, made: Bundle, models: Path, promoted_by: str | None) -> None:
    manifest = made.manifest
    if promoted_by is not None:
        routing.promote(models, manifest.name, manifest.version, by=promoted_by, why="hornpipe import")
        console.print(f"[bold]{made.path}[/] is production", highlight=False, soft_wrap=True)
    else:
        after = f"hornpipe promote {manifest.name} {manifest.version}"
        console.print(f"[bold]{made.path}[/] may serve  next: {after}", highlight=False, soft_wrap=True)
