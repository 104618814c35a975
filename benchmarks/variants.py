"""MobileNetV2 in every form that `hornpipe train` makes of it: milliseconds for one picture, at 96 and 224 pixels.

    python -m benchmarks.variants          # ten minutes; writes benchmarks/VARIANTS.md

The forms are made, checked and measured by training's own code, of a network that has learnt scikit-learn's digits for
a few minutes. They take turns, so that a busy neighbour slows all of them; medians are compared, of the wall clock and
of the processor's.
"""

import os

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import argparse
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from contract.features import Encoded, Encoder
from contract.images import encode_png
from contract.manifest import GoldenExample, ImageFeature, Variant
from contract.runtimes import LiteRT, Runtime, SavedModel
from training import config, export, variants
from training.exporting import conversion
from training.exporting.silence import quiet
from training.rows import InMemory, Prepared, Rows
from training.sections import TrainingConfig
from training.signatures import with_scores
from training.task import TASKS

OUT = Path(__file__).with_name("VARIANTS.md")
SIZES = (96, 224)
TRAIN, TEST = 900, 400
EPOCHS = {96: 5, 224: 3}
INT8, FLOAT, REFERENCE = conversion.NAMES["full-int8"], conversion.FLOAT, variants.REFERENCE
GOALS = {FLOAT: 2.0, REFERENCE: 5.0}
DOT_PRODUCTS = ("avx_vnni", "avx512_vnni", "amx_int8")
WITHOUT = (
    "This processor has no instruction that multiplies and sums int8 (VNNI, AMX; `grep vnni /proc/cpuinfo`). Without, "
    "XNNPACK's kernels widen int8 to int16 first, and what that costs is what the smaller type saves: int8 is smaller "
    "here, and not faster than float32. Both goals are for processors that have one."
)


def prepared(size: int) -> Prepared:
    """Digits as pictures [size, size, 3] of uint8."""
    pictures, labels = load_digits(return_X_y=True)
    grey = [
        Image.fromarray(np.uint8(each.reshape(8, 8) * 15.9)).resize((size, size)) for each in pictures[: TRAIN + TEST]
    ]
    image = np.stack([np.repeat(np.asarray(each)[..., None], 3, axis=2) for each in grey])
    none = np.zeros((len(image), 0))
    rows = Rows(Encoded(none.astype(np.float32), none.astype(np.int32), image), labels[: len(image)].astype(np.int32))
    train, test = rows.take(slice(0, TRAIN)), rows.take(slice(TRAIN, None))
    return Prepared(
        task=TASKS["multiclass"],
        encoder=Encoder([ImageFeature(name="picture", shape=(size, size, 3))]),
        classes=tuple("0123456789"),
        train=InMemory(train),
        sample=train,
        validation=test,
        test=test,
        raw_test=lambda _: [],
        fingerprint="",
    )


def network(data: Prepared, size: int, learnt: list[Any]) -> keras.Model:
    """Packed pictures to logits; goes on from what a network for another size has learnt, which it replaces."""
    keras.utils.set_random_seed(0)
    entry = keras.Input((size, size, 3), dtype="uint8", name="image")
    body = keras.applications.MobileNetV2((size, size, 3), include_top=False, weights=None, pooling="avg")
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # it has few steps to settle in
    made = keras.Model({"image": entry}, keras.layers.Dense(10)(body(keras.layers.Rescaling(1 / 127.5, -1)(entry))))
    if learnt:
        made.set_weights(learnt)
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    made.fit({"image": data.sample.encoded.image}, data.sample.labels, 32, EPOCHS[size], verbose=0)
    learnt[:] = made.get_weights()
    return made


def make(data: Prepared, model: keras.Model, staging: Path, settings: TrainingConfig) -> list[Variant]:
    scores = with_scores(model, data.task)
    with quiet(), TemporaryDirectory() as scratch:
        export.save(scores, data.encoder, staging)
        failed = conversion.convert(scores, data, staging, Path(scratch), settings.quantization)
    assert not failed, failed
    picture = {"picture": {"b64": encode_png(data.test.encoded.image[0])}}
    golden = [GoldenExample(row=picture, outputs={"probabilities": (0.1,) * 10})]
    measured, broken = variants.measure(staging, data, golden, 0.5, settings)
    assert not broken, broken
    return measured


class Times:
    """Seconds of every call."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def call(self, runtime: Runtime, row: Encoded) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        runtime.run(row)
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


def timed(runtimes: Mapping[str, Runtime], rows: Encoded, rounds: int, calls: int) -> dict[str, Times]:
    times = {name: Times() for name in runtimes}
    for turn in range(rounds):
        row = rows.take(slice(turn % rows.rows, turn % rows.rows + 1))
        for name, runtime in runtimes.items():
            runtime.run(row)  # others have had the caches
            for _ in range(calls):
                times[name].call(runtime, row)
    return times


def section(size: int, measured: list[Variant], times: dict[str, Times]) -> list[str]:
    lines = [
        f"## {size} pixels, one picture",
        "",
        "| form | MB | wall ms | CPU ms | int8 is faster by wall | by CPU | wanted | F1 (95%) | largest difference | |",
        "|---|--:|--:|--:|--:|--:|--:|---|--:|---|",
    ]
    ours = times[INT8]
    for each in measured:
        wall, processor = median(times[each.name].wall), median(times[each.name].processor)
        goal = f"{GOALS[each.name]:g}" if each.name in GOALS else ""
        f1 = each.intervals["f1_macro"]
        lines.append(
            f"| {each.name} | {each.size / 1e6:.1f} | {wall * 1e3:.2f} | {processor * 1e3:.2f} "
            f"| {wall / median(ours.wall):.2f} | {processor / median(ours.processor):.2f} | {goal} "
            f"| {f1.value:.3f} ({f1.low:.3f} to {f1.high:.3f}) | {each.largest_difference:.2g} | {each.refused or ''} |"
        )
    return [*lines, ""]


def instructions() -> list[str]:
    """What the processor has for multiplying many numbers at once, which decides whether int8 pays."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split())
    except (OSError, IndexError):
        return []
    return [name for name in ("avx2", "avx512f", *DOT_PRODUCTS) if name in flags]


def head(rounds: int, calls: int) -> list[str]:
    there = instructions()
    about = f"{platform.machine()}, {os.cpu_count()} cores ({', '.join(there)}), load {os.getloadavg()[0]:.1f}"
    reason = [] if not there or set(there) & set(DOT_PRODUCTS) else [WITHOUT, ""]
    return [
        "# Forms of MobileNetV2",
        "",
        f"`python -m benchmarks.variants`, {about}; TensorFlow {tf.__version__}, Keras {keras.__version__}. Medians of "
        f"{rounds * calls} calls in {rounds} turns. LiteRT runs on one thread, TensorFlow on as many as it likes.",
        "",
        *reason,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="MobileNetV2 in every form, one picture at a time.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=6)
    options = parser.parse_args()
    raw: dict[str, Any] = {"name": "mobilenet", "task": "multiclass", "data": {"path": "none", "target": "digit"}}
    raw |= {"split": {"by": "random"}, "features": {"picture": "image"}, "model": {"application": "MobileNetV2"}}
    raw |= {"quantization": {"variants": ["full-int8", "dynamic-int8", "float16"]}}
    settings = config.parse(raw)
    lines, learnt = head(options.rounds, options.calls), []
    for size in SIZES:
        data = prepared(size)
        with TemporaryDirectory() as folder:
            measured = make(data, network(data, size, learnt), Path(folder), settings)
            with quiet():
                paths = {each.name: Path(folder) / each.path for each in measured}
                runtimes = {n: SavedModel(p, "cpu") if p.is_dir() else LiteRT(p) for n, p in paths.items()}
                lines += section(size, measured, timed(runtimes, data.test.encoded, options.rounds, options.calls))
        print("\n".join(lines[-8:]), flush=True)
    OUT.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
