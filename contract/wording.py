"""What a text looks like, in two numbers that its drift is watched by.

    length      characters, all of them
    unknown     the share of its words that training does not know

Words are what keras.layers.TextVectorization makes of a text if it is not told otherwise: in lower case (all letters,
where TensorFlow's own does ASCII's), without ASCII's punctuation, what lies between white space. A word is known if at
least two training texts have it, and it is among the `MOST_KNOWN` that most of them have: whatever a network does with
text, its weights say little of a word that training met once. What the network itself calls unknown lies in its graph,
and to ask that would be to run it. Only the first `LOOKED_AT` characters are looked at, in training too: the start of
many texts shows their drift as well as all of a few, and a long text costs no more than a short one.

A text that is missing is missing in both; one without a word has a length, and its unknown words are missing.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

LOOKED_AT = 128
MOST_KNOWN = 20_000
LONGEST_WORD = 64
ENOUGH_TEXTS = 2

_without_punctuation = re.compile(r"[!-/:-@\[-`{-~]+").sub


def lengths(texts: Sequence[str]) -> Values:
    """In characters, [n]; NaN for what is missing."""
    found = np.fromiter(map(len, texts), np.float32, len(texts))
    found[found == 0] = np.nan
    return found


def unknown_shares(texts: Sequence[str], known: Collection[str]) -> Values:
    """Of the words of each text, [n]; NaN without any."""
    return np.fromiter((_unknown(_words(text), known) for text in texts), np.float32, len(texts))


def known_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Those of training texts that are known, the most frequent first."""
    return _seen_in(_texts_with_each(texts), ENOUGH_TEXTS)


def unknown_shares_in_training(texts: Sequence[str]) -> Values:
    """Of each training text as if training had not seen it, [n].

    A text's own words are known from itself; what is served has no such advantage. Without the text a word must be in
    two others, so it is in three: leave-one-out, as in Good and Turing's estimate of what has never been seen (Good,
    The Population Frequencies of Species and the Estimation of Population Parameters, 1953).
    """
    return unknown_shares(texts, frozenset(_seen_in(_texts_with_each(texts), ENOUGH_TEXTS + 1)))


def _words(text: str) -> list[str]:
    """Of a text that goes on not the last one, which may be cut."""
    words = _without_punctuation("", text[:LOOKED_AT].lower()).split()
    return words[:-1] if len(text) > LOOKED_AT else words


def _unknown(words: list[str], known: Collection[str]) -> float:
    return 1 - sum(map(known.__contains__, words)) / len(words) if words else np.nan


def _texts_with_each(texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(_words(text)))
    return counts


def _seen_in(counts: Counter[str], enough: int) -> tuple[str, ...]:
    seen = sorted((-count, word) for word, count in counts.items() if count >= enough and len(word) <= LONGEST_WORD)
    return tuple(word for _, word in seen[:MOST_KNOWN])
