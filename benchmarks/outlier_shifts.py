"""What rows come to be in production, done to rows on purpose: other units, noise, other pictures, attacks."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from contract.encoded import Encoded
from contract.features import UNSEEN, Encoder
from training.evaluation.adversarial import Scales, attackable, perturb
from training.loop import loss
from training.rows import Prepared, Rows
from training.sections import AdversarialSection, TrainingConfig

Shift = tuple[str, Encoded]
Numbers = NDArray[np.float32]
STEPS, BATCH = 10, 250


def of_table(rows: Encoded, encoder: Encoder, sample: Encoded, seed: int = 0) -> Iterator[Shift]:
    """Of any table of numbers; what is drawn is drawn from a fixed seed."""
    random = np.random.default_rng(seed)
    numbers, deviations = rows.numbers, np.nanstd(sample.numbers, axis=0)
    count, width = numbers.shape
    each, one = np.arange(count), random.integers(0, width, count)

    def changed(values: Numbers) -> Encoded:
        return rows._replace(numbers=values.astype(np.float32))

    def at_one(values: Numbers) -> Encoded:
        """With another value in one number of each row."""
        copy = numbers.copy()
        copy[each, one] = values
        return changed(copy)

    least, most = np.nanmin(sample.numbers, axis=0), np.nanmax(sample.numbers, axis=0)
    yield "each number permuted by itself", changed(random.permuted(numbers, axis=0))
    yield "one number of another row", at_one(numbers[random.integers(0, count, count), one])
    for noise in (0.1, 0.5):
        yield (
            f"noise of {noise:g} deviations",
            changed(numbers + noise * deviations * random.normal(size=numbers.shape)),
        )
    yield "one number a tenth of the range above it", at_one((most + 0.1 * (most - least))[one])
    yield "one number ten times as large", at_one(numbers[each, one] * 10)
    yield "one number is 0", at_one(np.zeros(count, np.float32))
    if not all(feature.required for feature in encoder.number_features):
        yield "0 where a number is missing", changed(np.nan_to_num(numbers))
    if rows.categories.shape[1]:
        codes = rows.categories.copy()
        codes[each, random.integers(0, codes.shape[1], count)] = UNSEEN
        yield "one category never seen", rows._replace(categories=codes)
        yield "categories permuted", rows._replace(categories=random.permuted(rows.categories, axis=0))


def of_flights(rows: Encoded, encoder: Encoder) -> Iterator[Shift]:
    """What would go wrong with this table."""
    names = [feature.name for feature in encoder.number_features]

    def with_columns(change: Callable[[Numbers], Numbers], *columns: str) -> Encoded:
        numbers = rows.numbers.copy()
        places = [names.index(column) for column in columns]
        numbers[:, places] = change(numbers[:, places])
        return rows._replace(numbers=numbers)

    weather = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
    yield "kilometres for miles", with_columns(lambda x: x * 1.609, "distance")
    yield "Celsius for Fahrenheit", with_columns(lambda x: (x - 32) / 1.8, "temp", "dewp")
    yield "wind in m/s for miles an hour", with_columns(lambda x: x * 0.447, "wind_speed")
    yield "hours for minutes", with_columns(lambda x: np.floor(x / 60), "departure_minute")
    yield "departure and arrival swapped", with_columns(lambda x: x[:, ::-1], "departure_minute", "arrival_minute")
    yield "no weather at all", with_columns(lambda x: x * np.nan, *weather)


def of_pictures(rows: Encoded, low: float, high: float, seed: int = 0) -> Iterator[Shift]:
    """Of grey pictures [n, side, side, 1] with values from low to high."""
    random = np.random.default_rng(seed)
    assert rows.image is not None
    plain = (rows.image[..., 0].astype(np.float32) - low) / (high - low)
    count, side = plain.shape[:2]

    def changed(values: NDArray[np.floating]) -> Encoded:
        image = np.clip(values, 0, 1)[..., np.newaxis] * (high - low) + low
        return rows._replace(image=image.astype(rows.image.dtype))

    for noise in (0.05, 0.2):
        yield f"noise of {noise:g} of the range", changed(plain + noise * random.normal(size=plain.shape))
    yield "blurred", changed(gaussian_filter(plain, (0, side / 12, side / 12)))
    yield "inverted", changed(1 - plain)
    yield "half as bright", changed(plain * 0.5)
    yield "lower half missing", changed(np.where(np.arange(side)[:, None] < side / 2, plain, 0.0))
    yield "pieces of photographs", changed(_photographs(count, side, random))
    yield "pixels permuted", changed(random.permuted(plain.reshape(count, -1), axis=1).reshape(plain.shape))
    yield "turned by 90 degrees", changed(np.rot90(plain, axes=(1, 2)))
    yield "upside down", changed(plain[:, ::-1])
    yield "shifted by a quarter", changed(np.roll(plain, side // 4, axis=2))


def attacked(network: keras.Model, prepared: Prepared, config: TrainingConfig, rows: Rows) -> Iterator[Shift]:
    """FGSM and PGD with the config's robustness_epsilon and a third of it, against the network, as in the report."""
    split, scales = attackable(network), Scales.of(prepared.encoder, prepared.sample)
    per_row = loss.of(config.training, prepared).plain().rows

    def logits(inputs):
        return split.network(inputs, training=False)

    for attack in ("fgsm", "pgd"):
        section = AdversarialSection(attack=attack, steps=STEPS)

        @tf.function(autograph=False, reduce_retracing=True)
        def run(inputs, labels, epsilon, section=section):
            return perturb(logits, per_row, inputs, labels, section, scales, tf.constant([0, 0]), epsilon)

        for share in (1 / 3, 1.0):
            epsilon = share * config.evaluation.robustness_epsilon
            parts = [
                _attacked(run, split, rows.take(slice(at, at + BATCH)), epsilon) for at in range(0, len(rows), BATCH)
            ]
            yield f"{attack.upper()}, epsilon {epsilon:.2g}", Encoded.join(parts)


def _attacked(run, split, part: Rows, epsilon: float) -> Encoded:
    inputs = {name: tf.constant(getattr(part.encoded, name)) for name in split.network.input}
    changed = run(split.prepare(inputs, False), part.labels, tf.constant(epsilon))
    found = {name: value.numpy() for name, value in changed.items() if name in ("image", "numbers")}
    return part.encoded._replace(**found)


def _photographs(count: int, side: int, random: np.random.Generator) -> NDArray[np.float32]:
    photographs = [each.mean(axis=2) / 255 for each in load_sample_images().images]
    pieces = []
    for _ in range(count):
        photograph = photographs[random.integers(len(photographs))]
        step = int(random.integers(1, 10))
        y, x = (random.integers(0, size - step * side) for size in photograph.shape)
        pieces.append(photograph[y : y + step * side, x : x + step * side].reshape(side, step, side, step).mean((1, 3)))
    return np.stack(pieces).astype(np.float32)


def limited(prepared: Prepared, most: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Two parts of the test rows, at most so many each: one stays as it is, one is changed."""
    order = np.random.default_rng(seed).permutation(len(prepared.test))[: 2 * most]
    half = len(order) // 2
    return prepared.test.take(np.sort(order[:half])), prepared.test.take(np.sort(order[half:]))
