"""Whether predictions can be had here: the one truth behind every protocol's readiness."""

from dataclasses import dataclass

from service.registry import Registry
from service.versions.slot import State


@dataclass
class Readiness:
    """`draining` is set by SIGTERM: what is asked is answered, but nobody shall be sent here any more."""

    registry: Registry
    draining: bool = False

    def ready(self) -> bool:
        """Every model that is routed has loaded and proved itself or been refused, and at least one serves."""
        return self.registry.ready() and not self.draining

    def models(self) -> dict[str, State]:
        return {slot.name: slot.state for slot in self.registry.slots()}
