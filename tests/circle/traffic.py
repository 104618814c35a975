"""Clients that ask without a pause, and remember every answer."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import httpx

from tests.waiting import PATIENCE_SECONDS

CLIENTS = 4
# Between an answer and the next request of a client: a hundred requests a second in all, a thousand flights.
PAUSE_SECONDS = 0.035


class Answer(NamedTuple):
    """When it came (seconds since 1970), which version answered, and what was wrong with it where none did."""

    at: float
    version: int | None
    wrong: str | None = None


class Traffic:
    """Each client has its own connection. What is asked can be changed; it is asked in turn, again and again."""

    def __init__(self, port: int, bodies: Sequence[bytes]) -> None:
        self.answers: list[Answer] = []
        self._url = f"http://127.0.0.1:{port}/predict"
        self._lock = threading.Lock()
        self._bodies: Iterator[bytes] = itertools.cycle(bodies)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ask_for(self, bodies: Sequence[bytes]) -> None:
        """From the next request on; nothing, where there are none."""
        with self._lock:
            self._bodies = itertools.cycle(bodies)

    def came(self, version: int) -> list[float]:
        """When each answer of a version came."""
        return sorted(answer.at for answer in list(self.answers) if answer.version == version)

    def failures(self) -> list[Answer]:
        return [answer for answer in list(self.answers) if answer.wrong is not None]

    def versions(self, since: float = 0.0) -> Counter[int]:
        """Answers by version, of those that came after a moment."""
        return Counter(a.version for a in list(self.answers) if a.version is not None and a.at > since)

    def _ask(self) -> None:
        with httpx.Client(timeout=PATIENCE_SECONDS, headers={"content-type": "application/json"}) as client:
            while not self._stop.wait(PAUSE_SECONDS):
                with self._lock:
                    body = next(self._bodies, None)
                if body is not None:
                    self.answers.append(self._answer(client, body))

    def _answer(self, client: httpx.Client, body: bytes) -> Answer:
        try:
            answer = client.post(self._url, content=body)
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return Answer(time.time(), None, f"{type(error).__name__}: {error}")
        if answer.status_code != 200:
            return Answer(time.time(), None, f"{answer.status_code}: {answer.text}")
        asked = body.count(b'"carrier"')
        wrong = None if len(said["predictions"]) == asked else f"{len(said['predictions'])} answers to {asked} rows"
        return Answer(time.time(), said["version"], wrong)
