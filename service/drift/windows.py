"""The last hour and the last day of every version: counts of all workers, read now and then, kept over a restart.

Requests pay nothing for it: what is read are the counters that a scrape reads. Each worker has the windows, so that
whichever is asked can answer; one of them writes them down, for those that start later.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

from contract.histogram import Counts
from service.counting.scrape import version_total
from service.counting.store import Found, Key, Store
from service.counting.watch import Watch
from service.drift.file import WindowsFile, packed
from service.drift.history import SPANS, History, Rows, Window

log = logging.getLogger("hornpipe.windows")

LOOK_SECONDS = 10
WRITE_SECONDS = 60
# Histories of versions that do not serve any more: so many, and not after this.
MOST_LEFT = 16
FORGET_SECONDS = SPANS["24h"].seconds + SPANS["24h"].step


class _Kept(NamedTuple):
    """A history, and the layout of its bins."""

    layout: int
    history: History


class Windows:
    """Histories by version. `watches` are those whose rows are counted now; `folder` is where the windows are kept,
    if anywhere. Everything but writing happens on the event loop."""

    def __init__(
        self,
        store: Store,
        watches: Callable[[], Mapping[Key, Watch]],
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._watches = watches
        self._file = None if folder is None else WindowsFile(folder)
        self._clock = clock
        self._serving: dict[Key, _Kept] = {}
        self._left: dict[Key, _Kept] = {}  # which may come back, or have not come yet
        self._most_left = MOST_LEFT

    def restore(self) -> None:
        """Go on from what was written down, by this run of the service or one before."""
        snapshot = self._file.read() if self._file is not None else None
        if snapshot is None:
            return
        self._most_left = max(MOST_LEFT, len(snapshot.versions))
        for each in snapshot.versions:
            history = each.history()
            if snapshot.run != self._store.run:
                history.began_anew()
            self._left[each.key] = _Kept(each.layout, history)

    async def run(self) -> None:
        """Look and write, until cancelled. A version that has just come is looked at soon: its windows begin then."""
        for second in count():
            if second % LOOK_SECONDS == 0 or self._watches().keys() - self._serving.keys():
                self._try_to_look()
            if second % WRITE_SECONDS == 0 and self._file is not None:
                await asyncio.to_thread(self._file.write, self._packed())
            await asyncio.sleep(1.0)

    def look(self) -> None:
        """Take in what all workers have counted until now."""
        now, watches = self._clock(), self._watches()
        for key in self._serving.keys() - watches.keys():
            self._left[key] = self._serving.pop(key)
        totals = self._totals(watches)
        for key, total in totals.items():
            self._history(key, watches[key], now, len(total)).look(now, total)
        self._forget(now)

    def rows(self, name: str, version: int, window: Window) -> tuple[Watch, Rows] | None:
        """Of a version that serves, or has until a moment ago; None of any other."""
        now = self._clock()
        watches = {
            key: watch
            for key, watch in self._watches().items()
            if (watch.manifest.name, watch.manifest.version) == (name, version)
        }
        for key, total in reversed(self._totals(watches).items()):  # the last to come, where one was published anew
            return watches[key], self._history(key, watches[key], now, len(total)).rows(window, now, total)
        return None

    async def close(self) -> None:
        """Write the last counts down."""
        if self._file is not None:
            self._try_to_look()
            await asyncio.to_thread(self._file.write, self._packed())
            self._file.close()

    def _try_to_look(self) -> None:
        try:
            self.look()
        except OSError as error:  # the folder of all workers, while one of them comes or goes
            log.warning("the counts could not be read: %s", error)

    def _totals(self, watches: Mapping[Key, Watch]) -> dict[Key, Counts]:
        """Of all workers, of those versions that have been counted."""
        found: dict[Key, list[Found]] = {key: [] for key in watches}
        for each in self._store.found():
            if each.key in found:
                found[each.key].append(each)
        totals = {key: version_total(found[key], watch, shared=self._store.shared) for key, watch in watches.items()}
        return {key: total[0] for key, total in totals.items() if total is not None}

    def _history(self, key: Key, watch: Watch, now: float, bins: int) -> History:
        if key not in self._serving:
            left = self._left.pop(key, None)
            if left is not None and left.layout != watch.digest:
                version = watch.manifest.version
                log.warning("%s/%d is counted otherwise than before: its windows begin anew", key.model, version)
                left = None
            self._serving[key] = left or _Kept(watch.digest, History.begun(now, bins))
        return self._serving[key].history

    def _forget(self, now: float) -> None:
        """Of what has left, what no window has any more, and what is too much."""
        fresh = [each for each in self._left.items() if now - each[1].history.last.time < FORGET_SECONDS]
        self._left = dict(fresh[-self._most_left :])

    def _packed(self) -> bytes:
        return packed(self._store.run, [(key, *kept) for key, kept in (self._left | self._serving).items()])
