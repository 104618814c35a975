"""What the config of the version in production wishes for in `[retrain]`."""

from typing import NamedTuple

import orjson
from pydantic import ValidationError

from contract.errors import HornpipeError
from contract.features import Problem, show
from contract.job import LONGEST_WORD, Order
from contract.manifest import Manifest
from contract.retrain import Retrain
from contract.trigger import Evidence
from service.versions.slot import Slot


class NoWish(HornpipeError):
    """The model is not to be trained again by itself; says why."""


class UnreadableWish(NoWish):
    """There is a section that another Hornpipe wrote. `problems` says what is not understood."""

    def __init__(self, message: str, problems: list[Problem]) -> None:
        super().__init__("; ".join([message, *(f"{each.path}: {each.expected}" for each in problems)]))


class Wish(NamedTuple):
    """A model that is to be trained again, by the manifest of its version in production."""

    manifest: Manifest
    retrain: Retrain

    def order(self, evidence: Evidence, asked_by: str) -> Order:
        """To train as production was trained, on the data as they are then."""
        return Order(
            model=self.manifest.name,
            config=orjson.dumps(self.manifest.config).decode(),
            cause=evidence.cause,
            asked_by=asked_by[:LONGEST_WORD],
            why=evidence.why[:LONGEST_WORD],
        )


def wish_of(slot: Slot) -> Wish:
    """Of what is loaded. Raises NoWish."""
    production = slot.routing.production
    model = None if production is None else slot.loaded.get(production)
    if model is None:
        raise NoWish(f"{slot.name} has no version in production that is loaded")
    section = model.manifest.config.get("retrain")
    if section is None:
        raise NoWish(f"the config of {slot.name}/{production} has no [retrain]")
    try:
        return Wish(model.manifest, Retrain.model_validate(section))
    except ValidationError as error:
        problems = [
            Problem(".".join(map(str, ("retrain", *each["loc"]))), "does not fit", each["msg"], show(each["input"]))
            for each in error.errors()
        ]
        raise UnreadableWish(f"[retrain] of {slot.name}/{production} is not understood here", problems) from error
