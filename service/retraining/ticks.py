"""Until when each model's schedule has been looked at: a small file beside the job table.

It lies there because whoever shares the table shares the schedule, and one of them at a time does this. Neither the
table nor the history can say it: of a time that was let pass there is no job, and a history may be out of reach.
"""

import logging
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from contract import bundle
from contract.part import Part
from contract.retrain import Retrain

log = logging.getLogger("hornpipe.retraining")


class Tick(Part):
    """Times of this schedule until `until` have been seen."""

    schedule: str
    timezone: str
    until: AwareDatetime


TICKS = TypeAdapter(dict[str, Tick])


class Ticks:
    """What the file says. For who leads."""

    def __init__(self, path: Path) -> None:
        """A file that is not there, or is broken, says nothing: then schedules begin now. Raises OSError."""
        self._path = path
        self._ticks: dict[str, Tick] = {}
        try:
            self._ticks = TICKS.validate_json(path.read_bytes())
        except FileNotFoundError:
            log.debug("%s is not there yet", path)
        except ValidationError as error:
            log.warning("%s cannot be read, so schedules begin now: %s", path, error)

    def until(self, model: str, retrain: Retrain, now: datetime) -> datetime:
        """Until when it has been seen: until now where it is seen for the first time, or is another one than before.
        Raises OSError."""
        found = self._ticks.get(model)
        if found is None or (found.schedule, found.timezone) != (retrain.schedule, retrain.timezone):
            self.saw(model, retrain, now)
            return now
        return found.until

    def saw(self, model: str, retrain: Retrain, until: datetime) -> None:
        """Raises OSError."""
        self._ticks[model] = Tick(schedule=retrain.schedule or "", timezone=retrain.timezone, until=until)
        bundle.replace_file(self._path, TICKS.dump_json(self._ticks, indent=1) + b"\n")
