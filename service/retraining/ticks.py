"""Until when a model's schedule has been looked at: a small file beside the job table.

It lies there because whoever shares the table shares the schedule, and one of them at a time does this. Neither the
table nor the history can say it: of a time that was let pass there is no job, and a history may be out of reach.
"""

import logging
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from contract import bundle
from contract.part import Part
from contract.retrain import Retrain

log = logging.getLogger("hornpipe.retraining")


class Tick(Part):
    """Times of this schedule until `until` have been seen."""

    schedule: str
    timezone: str
    until: AwareDatetime


def until(path: Path, retrain: Retrain, now: datetime) -> datetime:
    """Until when it has been seen: until now where it is seen for the first time, is another one than before, or the
    file is broken. Raises OSError."""
    try:
        found = Tick.model_validate_json(path.read_bytes())
        if (found.schedule, found.timezone) == (retrain.schedule, retrain.timezone):
            return found.until
    except FileNotFoundError:
        log.debug("%s is not there yet", path)
    except ValidationError as error:
        log.warning("%s cannot be read, so the schedule begins now: %s", path, error)
    saw(path, retrain, now)
    return now


def saw(path: Path, retrain: Retrain, now: datetime) -> None:
    """Keep until when it has been seen. Raises OSError."""
    tick = Tick(schedule=retrain.schedule or "", timezone=retrain.timezone, until=now)
    bundle.replace_file(path, tick.model_dump_json().encode() + b"\n")
