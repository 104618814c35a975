"""What a person sees while a model trains: stages, a bar with loss and time left, each evaluation."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from contract.evidence import DataWarning
from training.diagnosis.signals import Evaluation, Probe
from training.doctor import Doctor
from training.listener import Listener, Silent
from training.loop.run import Run


class TrainingProgress:
    """Prints to one console. Where that is no terminal, each stage and evaluation is a plain line."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage; when it is done, say how long it took."""
        started = time.perf_counter()
        with self.console.status(f"{title} ..."):
            yield
        self.console.print(f"[green]✓[/] {title} [dim]{time.perf_counter() - started:.1f} s[/]")

    def warn(self, warnings: Sequence[DataWarning]) -> None:
        """What the checks of the data have to say."""
        for each in warnings:
            where = f" {each.column}" if each.column else ""
            self.console.print(f"  [yellow]![/] {each.check}{where}: {each.seen}; {each.advice}", highlight=False)

    def attending(self, run: Run) -> Listener:
        """The doctor, who says what is wrong as soon as it shows."""
        return _Attending(self.console, run)

    @contextmanager
    def training(self, steps: int) -> Iterator[Listener]:
        """A bar over all steps that may come; early stopping may end it sooner."""
        bar = Progress(
            TextColumn("  training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeElapsedColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        started = time.perf_counter()
        with bar:
            task = bar.add_task("training", total=steps, loss=float("nan"))
            yield _Bar(self.console, bar, task)
        self.console.print(f"[green]✓[/] trained [dim]{time.perf_counter() - started:.1f} s[/]")


class _Attending(Silent):
    """Asks the doctor after every evaluation, and prints what is new."""

    def __init__(self, console: Console, run: Run) -> None:
        self._console, self._path = console, run.path
        self._doctor = Doctor(Run.read(run.path).record)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        del evaluation  # it is in the record
        for finding in self._doctor.news(Run.read(self._path).record):
            self._console.print(f"  [yellow]doctor[/] {finding.cause} Try: {finding.fix}", highlight=False)


class _Bar:
    """Listens to the loop."""

    def __init__(self, console: Console, bar: Progress, task: TaskID) -> None:
        self._console, self._bar, self._task = console, bar, task

    def on_steps(self, count: int, loss: float) -> None:
        self._bar.update(self._task, advance=count, loss=loss)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        mark = " [green]best so far[/]" if evaluation.best else ""
        self._console.print(
            f"  epoch {evaluation.epoch:.2f}  loss {evaluation.train_loss:.4f}  "
            f"validation {evaluation.monitor:.4f}{mark}"
        )

    def on_probe(self, probe: Probe) -> None: ...

    def on_note(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False)
