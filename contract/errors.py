"""What can go wrong with a bundle, a model's routing or a runtime.

HornpipeError
├── BundleError          a version folder is incomplete, altered or not a bundle
│   └── ProofFailed      it does not reproduce its own golden examples
├── PictureError         bytes that are no picture, or not one to be read here
├── Stopped              someone asked for it to stop
├── RoutingError         a promotion or rollback that cannot be done
│   └── GateRefused      of a version that may not serve
├── RuntimeUnavailable   the asked runtime, device or variant is not to be had here
└── RunFailed            a runtime could not run these rows
    └── RuntimeDied      the process that it lives in has ended
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contract.evidence import Reason


class HornpipeError(Exception):
    """Anything that Hornpipe itself refuses. The text is for the person who runs it."""


class Stopped(HornpipeError):
    """Not a failure: says what was saved, and how to go on."""


class BundleError(HornpipeError):
    """`problems` names each file that is wrong, relative to `path`, and how."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(f"{path} is not a sound bundle: {'; '.join(problems)}")
        self.path = path
        self.problems = problems


class ProofFailed(BundleError):
    """The runtime's outputs on the golden examples differ from the recorded ones by more than the tolerance."""


class PictureError(HornpipeError):
    """No PNG, JPEG or WebP, damaged, or too large. The text says what came."""


class RoutingError(HornpipeError):
    """The wish cannot be carried out; nothing was changed."""


class RoutingUnreadable(RoutingError):
    """routing.json or history.jsonl is not what it should be. Says which and where: for a log, not a client."""


class GateRefused(RoutingError):
    """`reasons` are the checks that the version did not pass."""

    def __init__(self, name: str, version: int, reasons: "Sequence[Reason]") -> None:
        told = "\n".join(f"  {reason.check}: {reason.detail}" for reason in reasons)
        super().__init__(f"the gate refused {name}/{version}:\n{told}\nto promote it all the same: --force")
        self.reasons = reasons


class RuntimeUnavailable(HornpipeError):
    """Says what was asked, why it cannot be had, and what can be done."""


class RunFailed(HornpipeError, RuntimeError):
    """Says which file and what its runtime said. That is a library's text: for a log, not for a client."""


class RuntimeDied(RunFailed):
    """The rows may be to blame, or not; another process is started."""
