"""How much the model leans on each feature: what it loses when that feature's values are shuffled (Breiman 2001, Random
Forests, section 10). Features that say the same share the loss between them."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from contract.evidence import Metric
from contract.features import Encoded, Encoder
from training.evaluation.bootstrap import RESAMPLES, drops
from training.exporting.results import Importance
from training.rows import Rows
from training.task import Scores, Task

SHUFFLES = 3
MOST_ROWS = 10_000
_MOST_PREDICTIONS = 1_000_000
_FEWEST_ROWS = 1_000

Predict = Callable[[Encoded], Scores]


def importance(
    task: Task, encoder: Encoder, test: Rows, predict: Predict, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Importance, ...]:
    """The loss in the headline metric for every number, category and text, the largest first; [] for fewer than two of
    them, where there is nothing to compare.

    On at most 10,000 of the rows, and fewer where there are hundreds of features. The interval covers which rows were
    drawn and how they were shuffled.
    """
    features = list(_shuffled_parts(encoder))
    if len(features) < 2:
        return ()
    random = np.random.default_rng(seed)
    rows = _some(test, len(features), random)
    own = predict(rows.encoded)
    measured = []
    for name, part, column in features:
        shuffles = [random.permutation(len(rows)) for _ in range(SHUFFLES)]
        without = [predict(_shuffle(rows.encoded, part, column, order)) for order in shuffles]
        drop: Metric = drops(task, task.headline, rows.labels, own, without, resamples=resamples, seed=seed)
        measured.append(Importance(feature=name, drop=drop))
    return tuple(sorted(measured, key=lambda each: -each.drop.value))


def _shuffled_parts(encoder: Encoder) -> Iterator[tuple[str, str, int]]:
    """Each feature's name, and where it is in the packed rows."""
    names = {
        "numbers": [feature.name for feature in encoder.number_features],
        "categories": [feature.name for feature in encoder.category_features],
        "texts": [feature.name for feature in encoder.text_features],
    }
    for part, of_part in names.items():
        yield from ((name, part, column) for column, name in enumerate(of_part))


def _some(test: Rows, features: int, random: np.random.Generator) -> Rows:
    most = int(np.clip(_MOST_PREDICTIONS // (features * SHUFFLES), _FEWEST_ROWS, MOST_ROWS))
    return test if len(test) <= most else test.take(np.sort(random.choice(len(test), most, replace=False)))


def _shuffle(encoded: Encoded, part: str, column: int, order: NDArray[np.int64]) -> Encoded:
    values = getattr(encoded, part).copy()
    values[:, column] = values[order, column]
    return encoded._replace(**{part: values})
