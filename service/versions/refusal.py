"""Why a version does not load, and when it is worth another try."""

from dataclasses import dataclass

from service.versions.folder import Stamp

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


@dataclass
class Refusal:
    """`stamp` is of the files as they were. `pause` is there where the failure may be of the moment, a full disk or a
    storage that is away: such a version is tried again after that many seconds, counted from `at`, the monotonic clock.
    """

    why: str
    stamp: Stamp
    at: float
    pause: float | None
    seen: Stamp | None = None
    mended: bool = False

    def look(self, stamp: Stamp) -> None:
        """The files may have changed; what is still being copied is left until it stands still."""
        self.mended = stamp not in (self.stamp, ()) and stamp == self.seen
        self.seen = stamp

    def may_be_tried(self, now: float) -> bool:
        return self.mended or (self.pause is not None and now >= self.at + self.pause)


def refusal(error: Exception, stamp: Stamp, before: Refusal | None, now: float) -> Refusal:
    """What follows from an error; pauses double while it stays the same."""
    pause = None
    if _may_pass(error):
        pause = FIRST_PAUSE_SECONDS
        if before is not None and before.pause is not None:
            pause = min(2 * before.pause, LONGEST_PAUSE_SECONDS)
    return Refusal(str(error) or type(error).__name__, stamp, now, pause)


def _may_pass(error: BaseException | None) -> bool:
    """Not what is only missing: that is seen when it comes."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)):
            return True
        error = error.__cause__
    return False
