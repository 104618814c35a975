"""What Alertmanager tells of a model: which alerts speak for training it again, and what is decided then.

The body is that of a webhook, version 4 (prometheus.io/docs/alerting/latest/configuration, "webhook_config"). It comes
again while an alert rings, from each of several Alertmanagers, and after every answer that is not of 2xx.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contract.retrain import Retrain
from contract.trigger import Evidence
from service.errors import UnknownModel
from service.registry import Registry
from service.retraining.asking import Outcome
from service.retraining.wish import NoWish, Wish, wish_of

# Those of deploy/prometheus/rules that are about drift. The others of a model are about what training would only learn.
DRIFT = ("HornpipeInputDrift", "HornpipePredictionDrift")
MOST_ALERTS = 1000
# Which labels tell one alert from another to a person.
_TELLING = ("feature", "output", "window")

Label = Annotated[str, Field(max_length=10_000)]
Decided = Literal["asked", "not_asked", "ignored"]


class Alert(BaseModel):
    """One alert. What else is told of it is not needed here, and may change with Alertmanager."""

    model_config = ConfigDict(frozen=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, Label]
    starts_at: AwareDatetime = Field(alias="startsAt")

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "")

    @property
    def words(self) -> str:
        """HornpipeInputDrift (distance, 24h)."""
        told = ", ".join(self.labels[each] for each in _TELLING if each in self.labels)
        return f"{self.name} ({told})" if told else self.name


class Notification(BaseModel):
    """A group of alerts. `truncated_alerts` are left out of it: there is a `max_alerts` in Alertmanager's config."""

    model_config = ConfigDict(frozen=True)

    version: Literal["4"]
    alerts: list[Alert] = Field(max_length=MOST_ALERTS)
    truncated_alerts: int = Field(default=0, ge=0, alias="truncatedAlerts")


class Heard(BaseModel):
    """What became of an alert: `not_asked` is what something else holds back, `ignored` what nobody waits for."""

    alertname: str
    model: str
    decision: Decided
    why: str
    job: int | None = Field(default=None, description="The job that is asked for.")


class Concern(NamedTuple):
    """The alerts that speak for training one model again, by their place in the notification."""

    wish: Wish
    alerts: Mapping[int, Alert]

    def evidence(self) -> Evidence:
        """One for all: they come of one change. `since` is when the last of them began."""
        names = ", ".join(sorted({alert.name for alert in self.alerts.values()}))
        last = max(alert.starts_at for alert in self.alerts.values())
        words = ", ".join(dict.fromkeys(alert.words for alert in self.alerts.values()))
        since = f"since {self.wish.retrain.said(last)}"
        return Evidence("drift", f"{names} rings {since}", f"{words} rings {since}", last)

    def heard(self, outcome: Outcome) -> dict[int, Heard]:
        """What became of each."""
        name, job = self.wish.manifest.name, outcome.job
        told: dict[str, Any] = {"model": name, "decision": "asked" if job else "not_asked", "why": outcome.why}
        number = job.id if job else None
        return {place: Heard(alertname=alert.name, job=number, **told) for place, alert in self.alerts.items()}


def sorted_out(alerts: Iterable[Alert], registry: Registry) -> tuple[dict[int, Heard], list[Concern]]:
    """What is ignored, by its place, and the rest by model. Reads what serves: for the event loop."""
    ignored: dict[int, Heard] = {}
    wishes: dict[str, Wish] = {}
    kept: dict[str, dict[int, Alert]] = {}
    for place, alert in enumerate(alerts):
        name = alert.labels.get("model", "")
        try:
            wish = _wish(alert, name, registry)
        except (NoWish, UnknownModel) as error:
            ignored[place] = Heard(alertname=alert.name, model=name, decision="ignored", why=str(error))
        else:
            wishes[name] = wish
            kept.setdefault(name, {})[place] = alert
    return ignored, [Concern(wishes[name], mine) for name, mine in kept.items()]


def wanted(retrain: Retrain) -> tuple[str, ...]:
    """The names of alerts that a config wants to be asked for."""
    if isinstance(retrain.on_drift, bool):
        return DRIFT if retrain.on_drift else ()
    return tuple(retrain.on_drift)


def _wish(alert: Alert, name: str, registry: Registry) -> Wish:
    """Raises NoWish or UnknownModel, which say why nothing follows."""
    if not name:
        raise NoWish("it has no label model")
    if alert.status == "resolved":
        raise NoWish("it rings no more")
    wish = wish_of(registry.slot(name))
    if alert.name not in (names := wanted(wish.retrain)):
        of = f"{name}/{wish.manifest.version}"
        raise NoWish(f"on_drift of {of} is for {', '.join(names) or 'nothing'}, and not for {alert.name[:64]}")
    version = alert.labels.get("version", str(wish.manifest.version))
    if version != str(wish.manifest.version):
        raise NoWish(f"it is about version {version[:20]}, and {wish.manifest.version} is in production")
    return wish
