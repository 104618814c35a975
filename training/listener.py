"""Who is told how a training run goes: the progress bar, the doctor, the logs."""

from typing import Protocol

from training.diagnosis.signals import Evaluation, Probe


class Listener(Protocol):
    """Called on the thread that trains, between two calls of the compiled function; what it raises ends the run."""

    def on_steps(self, count: int, loss: float) -> None:
        """`count` more steps are done, with this mean loss (NaN where unknown). The counts add up to the position: a
        resumed run begins with all steps of its past, and going back to a checkpoint is a negative count."""

    def on_evaluation(self, evaluation: Evaluation) -> None: ...

    def on_probe(self, probe: Probe) -> None: ...

    def on_note(self, text: str) -> None:
        """Something that a person should know, in one sentence."""


class Silent:
    """Listens to nothing."""

    def on_steps(self, count: int, loss: float) -> None: ...

    def on_evaluation(self, evaluation: Evaluation) -> None: ...

    def on_probe(self, probe: Probe) -> None: ...

    def on_note(self, text: str) -> None: ...


class All:
    """Several listeners as one, told in order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def on_steps(self, count: int, loss: float) -> None:
        for listener in self._listeners:
            listener.on_steps(count, loss)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        for listener in self._listeners:
            listener.on_evaluation(evaluation)

    def on_probe(self, probe: Probe) -> None:
        for listener in self._listeners:
            listener.on_probe(probe)

    def on_note(self, text: str) -> None:
        for listener in self._listeners:
            listener.on_note(text)
