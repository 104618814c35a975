"""Calls that nobody waits for, one after the other on a thread of their own."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

Call = Callable[[], object]


class Courier:
    """Carries out calls in their order. After one that fails, `failed` is told and no other is carried out."""

    def __init__(self, name: str, failed: Callable[[Exception], None]) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._failed = failed
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def send(self, call: Call) -> None:
        """Have this done after all that was sent before."""
        self._calls.put(call)

    def close(self, patience: float) -> bool:
        """Wait at most `patience` seconds until all is done; returns whether it is. The process may end even if not."""
        self._calls.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _work(self) -> None:
        sound = True
        while (call := self._calls.get()) is not None:
            if sound:
                sound = self._carried_out(call)

    def _carried_out(self, call: Call) -> bool:
        try:
            call()
        except Exception as error:  # whatever a client library may raise
            self._failed(error)
            return False
        return True
