"""What is measured of texts, against counting by hand."""

import numpy as np
import pytest

from contract import wording

TRAINING = ["The storm, the rain", "Rain in Genève!", "a storm (in) GENÈVE", "", "—", "rare words, don't"]


def test_words_of_two_texts_are_known_the_most_frequent_first() -> None:
    assert wording.known_words(TRAINING) == ("genève", "in", "rain", "storm")
    assert wording.known_words([]) == wording.known_words(["a a a"]) == ()


def test_what_is_no_word_of_training_is_unknown() -> None:
    known = frozenset(wording.known_words(TRAINING))
    texts = ["Rain in genève", "snow in Genève", "snow: snow", "Storm, rain\nstorm", "r-a-i-n", "", "...!"]

    np.testing.assert_allclose(wording.unknown_shares(texts, known), [0, 1 / 3, 1, 0, 0, np.nan, np.nan])


def test_words_are_those_of_keras() -> None:
    import keras

    texts = [
        *TRAINING,
        "Don't [mix] {these}: a/b, c|d ~e `f` <g> @h #i $j %k ^l &m *n",
        "tab\tand\nline  und über 3.14",
    ]
    layer = keras.layers.TextVectorization(output_mode="int")
    layer.adapt(texts)
    known = frozenset(layer.get_vocabulary()[2:])

    assert wording.unknown_shares([text for text in texts if text], known).tolist() == [0] * (len(texts) - 1)
    assert set(wording.known_words(texts * 2)) == {word.lower() for word in known}


def test_lengths_are_characters_and_a_missing_text_has_none() -> None:
    np.testing.assert_array_equal(wording.lengths(["abc", "", "é", "x" * 5000]), [3, np.nan, 1, 5000])


def test_only_the_start_of_a_text_is_looked_at() -> None:
    known = frozenset({"known"})
    start = "known " * (wording.LOOKED_AT // 6 + 1)

    assert wording.unknown_shares([start + "unknown " * 1000], known).tolist() == [0]
    assert wording.known_words([start + "late words"] * 2) == ("known",)


def test_words_that_are_too_long_for_a_manifest_are_unknown() -> None:
    longest = "w" * wording.LONGEST_WORD

    assert wording.known_words([longest, longest, longest + "w", longest + "w"]) == (longest,)


def test_the_baseline_is_that_of_texts_that_training_has_not_seen() -> None:
    """Words as they are: few are frequent and most are rare. By their own words training texts have far too few that
    are unknown; as measured they have as many as new ones."""
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in random.zipf(1.3, 20)) for _ in range(4000)]
    training, new = texts[:2000], texts[2000:]
    known = frozenset(wording.known_words(training))

    there = wording.unknown_shares(new, known).mean()
    assert wording.unknown_shares_in_training(training).mean() == pytest.approx(there, rel=0.05)
    assert wording.unknown_shares(training, known).mean() < 0.9 * there
