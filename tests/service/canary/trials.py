"""Small versions to try beside each other: one that is as good as production, and one for each way to be worse.

All of them add up three numbers, in networks of Keras' own: the oracle is addition.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from contract import bundle, routing
from contract.answered import difference
from contract.bundle import Bundle
from contract.evidence import Verdict
from contract.features import Encoder
from contract.manifest import NumberFeature, RegressionOutput
from contract.routing import Event
from tests import kinds, sums

NAME = sums.NAME
OUTPUT = RegressionOutput(minimum=0.0, maximum=300.0, half_width=1.0)
FIELDS = ("a", "b", "c")
# Within what production's interval allows, so that only labels can tell.
OFF = 0.9
# Of this value on the one that fails answers what is no number.
FAILS_FROM = 50.0
# For who is not about latency: on a machine that others use, runs of the one may take longer than those of the other.
PATIENT = {"latency": 20.0}


def make(models: Path) -> dict[str, Bundle]:
    """Production, and one for each way to be worse."""
    import keras

    def plain(entry: Any) -> Any:
        return _sum(entry)

    def failing(entry: Any) -> Any:
        return _sum(entry) + 0.0 * keras.ops.sqrt(FAILS_FROM - entry[:, :1])

    def slow(entry: Any) -> Any:
        """Eight million multiplications and weights that no cache near a core has room for: a millisecond or so."""
        wide = keras.layers.Dense(1000, activation="tanh")(entry)
        again = keras.layers.Dense(1000, activation="tanh")
        for _ in range(8):
            wide = again(wide)
        return _sum(entry) + keras.layers.Dense(1, kernel_initializer="zeros")(wide)

    return {
        "production": _published(models, "production", plain),
        "wrong": _published(models, "wrong", lambda entry: 300.0 - plain(entry)),
        "off": _published(models, "off", lambda entry: plain(entry) + OFF),
        "half": _published(models, "half", lambda entry: plain(entry) / 2),
        "failing": _published(models, "failing", failing),
        "slow": _published(models, "slow", slow),
    }


def halves(production: Bundle, against: int) -> Verdict:
    """What the gate says of one that answers half as much as production and is right: by addition."""
    known = np.array([sum(row.values()) for row in sums.rows(2000, seed=8)], np.float32)
    manifest = production.manifest
    seen = difference(manifest, manifest, {OUTPUT.name: known}, {OUTPUT.name: known / 2})
    return Verdict(passed=True, against=against, reasons=(), difference=seen)


def put(source: Bundle, models: Path, verdict: Verdict | None = None, **promotion: object) -> Bundle:
    """Publish it as the next version of sums, with this [promotion] in its config."""
    given = {"policy": "canary", "min_minutes": 0.0, "min_requests": 30, "margins": PATIENT} | promotion
    with bundle.staged(models, NAME) as staging:
        shutil.copytree(source.path, staging, dirs_exist_ok=True)
        update = {"name": NAME, "config": {"promotion": given}, "verdict": verdict}
        return bundle.publish(staging, lambda version: source.manifest.model_copy(update=update | {"version": version}))


def events(models: Path) -> list[tuple[str, int | None, float | None]]:
    """What has happened to the traffic."""
    changes = ("promote", "rollback", "canary", "canary_off")
    return [(e.action, e.to_version, e.percent) for e in history(models) if e.action in changes]


def history(models: Path) -> list[Event]:
    return routing.history(models, NAME)


def _published(models: Path, name: str, network: Any) -> Bundle:
    import keras

    features = [NumberFeature(name=each, required=True, minimum=0.0, maximum=100.0, example=20.0) for each in FIELDS]
    entry = keras.Input((3,), name="numbers")
    model = keras.Model({"numbers": entry}, {"value": keras.layers.Flatten()(network(entry))[:, 0]})
    known = [{key: value / 2.1 for key, value in row.items()} for row in sums.rows(64, seed=0)]
    labels: Any = np.array([sum(row.values()) for row in known], np.float32)
    return kinds.publish(models, name, model, Encoder(features), known, labels, OUTPUT).bundle


def _sum(entry: Any) -> Any:
    import keras

    return keras.ops.sum(entry, axis=1, keepdims=True)
