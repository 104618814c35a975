"""The numbers that are taken of pictures and texts, because they are what can be watched of them."""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from contract import watched, wording
from contract.appearance import Appearance
from contract.encoded import Encoded
from contract.features import Encoder

Values = NDArray[np.float32]
Take = Callable[[Encoded], Values]


class Statistics:
    """Takes those of `labels` that encoded rows have; `words` are those that training knows, by text feature."""

    def __init__(self, encoder: Encoder, labels: Collection[str], words: Mapping[str, Collection[str]]) -> None:
        found = [each for each in watched.statistics(encoder.features) if each.label in labels]
        self.labels = tuple(each.label for each in found)
        self._takes: list[tuple[slice, Take]] = []
        for i, each in enumerate(found):
            if each.name == watched.LENGTH:
                self._takes.append((slice(i, i + 1), partial(_lengths, _column(encoder, each.feature))))
            elif each.name == watched.UNKNOWN_WORDS:
                known = frozenset(words[each.feature])
                self._takes.append((slice(i, i + 1), partial(_unknown, _column(encoder, each.feature), known)))
        picture = encoder.image_feature
        if picture is not None and (mine := [i for i, each in enumerate(found) if each.feature == picture.name]):
            appearance = Appearance(picture)
            columns = [appearance.names.index(found[i].name) for i in mine]
            self._takes.append((slice(mine[0], mine[-1] + 1), partial(_appearance, appearance, columns)))

    def take(self, encoded: Encoded) -> Values:
        """[n, labels]; NaN for what is missing."""
        if len(self._takes) == 1:
            return self._takes[0][1](encoded)
        taken = np.empty((encoded.rows, len(self.labels)), np.float32)
        for columns, take in self._takes:
            taken[:, columns] = take(encoded)
        return taken


def _column(encoder: Encoder, name: str) -> int:
    return [feature.name for feature in encoder.text_features].index(name)


def _lengths(column: int, encoded: Encoded) -> Values:
    return wording.lengths(_texts(column, encoded))[:, None]


def _unknown(column: int, known: frozenset[str], encoded: Encoded) -> Values:
    return wording.unknown_shares(_texts(column, encoded), known)[:, None]


def _texts(column: int, encoded: Encoded) -> list[str]:
    assert encoded.texts is not None  # noqa: S101  # for the type checker: the encoder has text features
    found: list[str] = encoded.texts[:, column].tolist()
    return found


def _appearance(appearance: Appearance, columns: list[int], encoded: Encoded) -> Values:
    assert encoded.image is not None  # noqa: S101  # for the type checker: the encoder has a picture
    measured = appearance.measure(encoded.image)
    return measured if len(columns) == measured.shape[1] else measured[:, columns]
