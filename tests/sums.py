"""Versions whose every answer says which of them gave it: the sum of three numbers, and a thousand for the version.

The oracle is addition. Each has a SavedModel and a LiteRT file, with the latencies that a test wants of them: those
decide whether a version runs on the event loop or on threads.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import bundle
from contract.bundle import Bundle
from contract.features import Encoder
from contract.manifest import Choice, Latency, NumberFeature, RegressionOutput
from tests import kinds
from tests.made import once

NAME = "sums"
INLINE, THREADED = 20.0, 500.0  # microseconds a row


def made(folders: pytest.TempPathFactory) -> list[Bundle]:
    """Two versions."""
    models = once(folders, NAME, lambda folder: [_make(folder, version) for version in (1, 2)])
    return [bundle.read_version(models, NAME, version) for version in (1, 2)]


def copy(
    source: Bundle,
    models: Path,
    name: str = NAME,
    *,
    runtime: str = "litert",
    latency: float = INLINE,
    size: int | None = None,
) -> Bundle:
    """Publish a version under its own number, to run on this runtime, as slow and as large as is said."""
    slow = {rows: Latency(p50=latency, p99=latency) for rows in ("1", "32")}
    said = {"latency": slow} if size is None else {"latency": slow, "size": size}
    variants = tuple(variant.model_copy(update=said) for variant in source.manifest.variants)
    chosen = next(variant.name for variant in variants if variant.runtime == runtime)
    with bundle.staged(models, name) as staging:
        shutil.copytree(source.path, staging, dirs_exist_ok=True)
        update = {"name": name, "variants": variants, "chosen": Choice(variant=chosen, why="the test wants it")}
        made = bundle.publish(staging, lambda _: source.manifest.model_copy(update=update))
    wanted = made.path.with_name(str(source.manifest.version))
    if made.path != wanted:
        made.path.rename(wanted)
    return Bundle(wanted, made.manifest)


def rows(count: int, seed: int) -> list[dict[str, float]]:
    numbers = np.random.default_rng(seed).uniform(0, 100, (count, 3)).round(2)
    return [dict(zip("abc", map(float, row), strict=True)) for row in numbers]


def version_of(row: dict[str, float], value: float) -> float:
    """Which version gave this answer; no whole number when none did."""
    return round((value - sum(row.values())) / 1000, 4)


def _make(models: Path, version: int) -> Bundle:
    import keras

    features = [
        NumberFeature(name=each, required=True, minimum=0.0, maximum=100.0, example=50.0) for each in ("a", "b", "c")
    ]
    entry = keras.Input((3,), name="numbers")
    layer = keras.layers.Dense(1)
    network = keras.Model({"numbers": entry}, {"value": keras.layers.Flatten()(layer(entry))[:, 0]})
    layer.set_weights([np.ones((3, 1), np.float32), np.full(1, 1000 * version, np.float32)])
    known = rows(64, seed=0)
    labels: Any = np.array([sum(row.values()) for row in known], np.float32)
    output = RegressionOutput(minimum=0.0, maximum=300.0, half_width=1.0)
    return kinds.publish(models, NAME, network, Encoder(features), known, labels, output).bundle
