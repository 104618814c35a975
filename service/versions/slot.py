"""The place of one model: what is wished for, what is loaded, and who answers whom."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from contract.routing import Role, Routing
from service.errors import NotReady, UnknownLabel, UnknownModel, UnknownVersion
from service.monitor import Monitor
from service.versions.loaded import LoadedModel
from service.versions.refusal import Refusal
from service.versions.splitting import Split

State = Literal["loading", "ready", "refused", "idle", "unloaded"]
VersionState = Literal["loading", "ready", "refused"]

# Of versions that have left: as many as roles can change hands between two scrapes.
MOST_RETIRED = 4

STABLE = "stable"  # another word for production


@dataclass(frozen=True)
class VersionStatus:
    """One version that is loaded, or is to be; `model` is there when it is ready, `refused` says why it is not."""

    version: int
    roles: tuple[Role, ...]
    state: VersionState
    model: LoadedModel | None
    refused: str | None


class Slot:
    """One model's. `serving` is the production version, or the one before it while that has not loaded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.routing = Routing()
        self.unreadable: str | None = None  # why the routing is not known
        self.serving: LoadedModel | None = None
        self.loaded: dict[int, LoadedModel] = {}
        self.refusals: dict[int, Refusal] = {}
        self.retired: dict[int, Monitor] = {}
        self._canary: LoadedModel | None = None
        self._split = Split(name, 0.0)

    @property
    def wanted(self) -> int | None:
        """The version that is to be production."""
        return None if self.routing.unloaded else self.routing.production

    @property
    def state(self) -> State:
        """Of production, which is what most ask for; of the others, `versions` tells."""
        if self.serving is not None:
            return "ready"
        if self.routing.unloaded:
            return "unloaded"
        if self.unreadable is not None or self.wanted in self.refusals:
            return "refused"
        return "loading" if self.wanted is not None else "idle"

    def versions(self) -> list[VersionStatus]:
        """What is loaded and what is to be, ascending."""
        roles = self.roles()
        return [self._status(version, roles[version]) for version in sorted(roles)]

    def roles(self) -> dict[int, tuple[Role, ...]]:
        """What each version is there for; what still serves for production too."""
        roles = self.routing.roles()
        if self.serving is not None and self.serving.version != self.wanted:
            roles[self.serving.version] = ("production", *roles.get(self.serving.version, ()))
        return roles

    def missing(self) -> list[int]:
        """What is to be loaded and is not; production first."""
        return [version for version in self.routing.roles() if version not in self.loaded]

    def monitors(self) -> Iterator[Monitor]:
        """Of what is loaded, and of what has left: its last counts must reach a scrape."""
        for version, monitor in self.retired.items():
            if version not in self.loaded:
                yield monitor
        yield from (model.monitor for model in self.loaded.values())

    def follow(self, routing: Routing) -> bool:
        """Do what the routing says, as far as it is loaded; True when another version serves afterwards."""
        self.routing, self.unreadable = routing, None
        wanted = routing.roles()
        self.refusals = {version: each for version, each in self.refusals.items() if version in wanted}
        return self._settle()

    def put(self, model: LoadedModel) -> bool:
        """Let a version that has loaded take its place; True when another version serves afterwards."""
        self.refusals.pop(model.version, None)
        self.loaded[model.version] = model
        return self._settle()

    def clear(self) -> None:
        """Let go of everything."""
        self.routing, self.serving = Routing(), None
        self._settle()

    def pick(self, version: int | None, label: str | None, key: bytes) -> LoadedModel:
        """What answers. Raises UnknownModel, UnknownVersion, UnknownLabel or NotReady."""
        if version is None and label is None:
            if self._canary is not None and self._split.to_canary(key):
                return self._canary
            if self.serving is not None:
                return self.serving
        return self._pick(version, label)

    def _pick(self, version: int | None, label: str | None) -> LoadedModel:
        """Of those that ask for one in particular, or for what is not there."""
        if self.routing.unloaded or not (self.routing.roles() or self.loaded):
            state = "is unloaded" if self.routing.unloaded else "has no version in service"
            raise UnknownModel(f"{self.name} {state}")
        if label is not None:
            named = self._of_label(label)
            if version is not None and version != named:
                raise UnknownVersion(f"{self.name}/{version} is not {label}, which is version {named}")
            version = named
        elif version is None:
            version = self.wanted
        if version is None:
            raise UnknownVersion(f"{self.name} has no production version; say which: {self._numbers()}")
        if version in self.loaded:
            return self.loaded[version]
        if version in self.refusals:
            raise NotReady(f"{self.name}/{version} did not load or prove itself; serving: {self._numbers()}")
        if version in self.routing.roles():
            raise NotReady(f"{self.name}/{version} is not ready to serve yet; see /readyz")
        raise UnknownVersion(f"{self.name}/{version} does not serve; serving: {self._numbers()}")

    def _of_label(self, label: str) -> int:
        labels = self.labels()
        if label not in labels:
            known = ", ".join(labels) or "none"
            raise UnknownLabel(f"{self.name} has no label {label[:64]!r}; labels: {known}")
        return labels[label]

    def labels(self) -> dict[str, int]:
        """The version of each label that there is."""
        routing = self.routing
        production = self.serving.version if self.serving is not None else self.wanted
        found = {"production": production, STABLE: production, "shadow": routing.shadow}
        if routing.canary is not None:
            found["canary"] = routing.canary.version
        return {label: version for label, version in found.items() if version is not None}

    def _numbers(self) -> str:
        return ", ".join(map(str, sorted(self.loaded))) or "none"

    def _status(self, version: int, roles: tuple[Role, ...]) -> VersionStatus:
        model, refusal = self.loaded.get(version), self.refusals.get(version)
        if model is not None:
            return VersionStatus(version, roles, "ready", model, None)
        if refusal is not None:
            return VersionStatus(version, roles, "refused", None, refusal.why)
        return VersionStatus(version, roles, "loading", None, None)

    def _settle(self) -> bool:
        """Everybody takes their place at once: what requests read changes only here."""
        before = self.serving
        if self.wanted is None:
            self.serving = None
        elif self.wanted in self.loaded:
            self.serving = self.loaded[self.wanted]
        roles = self.roles()
        for version in self.loaded.keys() - roles.keys():
            self._retire(self.loaded.pop(version))
        canary, shadow = self.routing.canary, self.loaded.get(self.routing.shadow or 0)
        self._canary = self.loaded.get(canary.version) if canary is not None else None
        self._split = Split(self.name, canary.percent if canary is not None else 0.0)
        for version, model in self.loaded.items():
            model.roles = roles[version]
            model.shadow = self._copied_to(model, shadow)
        return self.serving is not before and self.serving is not None

    def _copied_to(self, model: LoadedModel, shadow: LoadedModel | None) -> LoadedModel | None:
        """What production answers is copied to the shadow, and what the canary answers to production."""
        other = shadow if model is self.serving else self.serving if model is self._canary else None
        return other if other is not model else None

    def _retire(self, model: LoadedModel) -> None:
        """It ends what it has begun; who still runs on it holds it."""
        self.retired[model.version] = model.monitor
        for version in list(self.retired)[:-MOST_RETIRED]:
            del self.retired[version]
