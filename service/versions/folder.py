"""What the models folder says: which models are there, and how they are routed.

It is looked at several times a second, so a look costs about one `stat` a model: a file is read when it has changed.
"""

import logging
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from contract import bundle, routing
from contract.errors import RoutingError
from contract.manifest import is_name
from contract.routing import Routing

log = logging.getLogger("hornpipe.registry")

# Path, time, size and number of each file: a file that is replaced is another one, even at once and of the same size.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Look:
    """What was there: each model's routing, or why it cannot be read, and the stamps that were asked for."""

    routings: dict[str, Routing | str]
    stamps: dict[tuple[str, int], Stamp]


class Folder:
    """The folder of all models, or of those that are listed. It is for one thread at a time."""

    def __init__(self, path: Path, listed: Collection[str] | None = None) -> None:
        self.path = path
        self._listed = None if listed is None else frozenset(listed)
        self._known: dict[str, tuple[Stamp, Routing | str | None]] = {}

    def look(self, versions: Iterable[tuple[str, int]] = ()) -> Look:
        """What is there now, and the stamps of some versions. Raises OSError when the folder cannot be listed."""
        with os.scandir(self.path) as entries:
            names = sorted(entry.name for entry in entries if self._may_be_model(entry))
        seen = {name: self._see(name) for name in names}
        for name, (_, found) in seen.items():
            if isinstance(found, str) and found != self._known.get(name, ((), None))[1]:
                log.warning("%s: %s; it is left as it is", name, found)
        self._known = seen
        routings = {name: found for name, (_, found) in seen.items() if found is not None}
        return Look(routings, {(name, version): stamp_of(self.path, name, version) for name, version in versions})

    def _may_be_model(self, entry: "os.DirEntry[str]") -> bool:
        if not is_name(entry.name) or (self._listed is not None and entry.name not in self._listed):
            return False
        try:
            return entry.is_dir()
        except OSError:  # a link that leads to itself, say
            return False

    def _see(self, name: str) -> tuple[Stamp, Routing | str | None]:
        """The file's stamp, and the routing; None for what is no model."""
        stamp = _stamp(self.path / name / routing.ROUTING)
        before = self._known.get(name)
        if before is not None and before[0] == stamp and stamp:
            return before
        try:
            if stamp:
                return stamp, routing.read(self.path, name)
            if not bundle.versions(self.path, name):
                return stamp, None
        except (RoutingError, OSError) as error:
            return stamp, str(error)
        gone = f"{self.path / name / routing.ROUTING} is gone"
        return stamp, gone if before is not None and (before[0] or before[1] == gone) else Routing()


def stamp_of(models: Path, name: str, version: int) -> Stamp:
    """Changes whenever a file of a version does."""
    try:
        return tuple(each for path in sorted((models / name / str(version)).rglob("*")) for each in _stamp(path))
    except OSError:
        return ()


def _stamp(path: Path) -> Stamp:
    """Of one file; empty where there is none, or it cannot be seen."""
    try:
        facts = path.stat()
    except OSError:
        return ()
    return ((str(path), facts.st_mtime_ns, facts.st_size, facts.st_ino),)
