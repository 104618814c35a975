"""Where the dots and lines of a forest plot lie."""

from contract.evidence import Metric
from training.pages.forest import Entry, forest


def test_places_are_in_proportion_and_stay_inside() -> None:
    entries = [
        Entry("a", Metric(value=2, low=1, high=3), "10", own=True),
        Entry("b", Metric(value=4, low=3.5, high=5)),
    ]
    drawn = forest(entries, mark=2)

    assert drawn is not None
    assert [(line.name, line.note, line.own) for line in drawn.lines] == [("a", "10", True), ("b", "", False)]
    assert [(line.start, line.width, line.at) for line in drawn.lines] == [(2, 48, 26), (62, 36, 74)]
    assert drawn.mark == 26


def test_the_mark_is_always_in_the_picture() -> None:
    drawn = forest([Entry("a", Metric(value=2, low=1, high=3))], mark=0)
    assert drawn is not None
    assert (drawn.mark, drawn.lines[0].start, drawn.lines[0].start + drawn.lines[0].width) == (2, 34, 98)


def test_one_value_without_width_and_nothing_at_all() -> None:
    drawn = forest([Entry("a", Metric(value=2, low=2, high=2))])
    assert drawn is not None
    assert (drawn.lines[0].width, drawn.mark) == (0, None)
    assert forest([]) is None
