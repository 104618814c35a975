"""`hornpipe init`: from data to a config that trains as it stands, with the reasons as comments."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.errors import ConfigError, DataError
from training.init import column_names, contest, draft, suggest, survey
from training.init.draft import Line, Section
from training.init.profile import Profile, profile
from training.init.suggest import Choice, Question
from training.init.survey import Survey
from training.sources import images
from training.sources.columns import as_text, value_counts

VALIDATION_FROM, TEST_FROM = 0.70, 0.85  # of the rows
FEWEST_DAYS = 10
FEWEST_OF_A_CLASS = 5  # in each part of a split by time
RARE = 0.02  # share of a class that a part may lack where there are many
IN_ORDER = 0.9  # of the steps from row to row
RANDOM = "no column says when a row came about"
LARGEST_SIDE = 96  # of a picture, in pixels


def write(data: Path, target: str | None, output: Path | None) -> str:
    """The text of a config, and into a new file where `output` names one. Raises ConfigError where that exists."""
    if output is not None and output.exists():
        raise ConfigError(str(output), ["exists already; remove it, or give another name"])
    text = inspect(data, target)
    if output is not None:
        beside = output.with_name(f".{output.name}.{os.getpid()}")
        beside.write_text(text)
        beside.replace(output)
    return text


def inspect(data: Path, target: str | None) -> str:
    """The text of a config for a table (CSV or Parquet, a file or a folder), a folder of pictures or a .npz file.

    Raises DataError: data that cannot be read, or a target that is missing, unknown, or nothing to predict.
    """
    if data.suffix == ".npz" and data.is_file():
        return _arrays(data, target)
    if images.is_folder_of_pictures(data):
        return _pictures(data, target)
    return _table(data, target)


def _table(path: Path, target: str | None) -> str:
    found = survey.table(path)
    profiles = _profiles(found)
    target = suggest.check_target(target, profiles)
    asked = suggest.question(target, profiles[target], found.sample[target])
    min_count = _min_count(found.rows)
    choices = suggest.choose(profiles, found.sample, asked, min_count or 10, found.zeros)
    split, moment = _split(path, found, profiles, asked)
    if moment is not None:
        choices = _without(choices, moment, "the split goes by it")
    return _of_columns(path, found, profiles, asked, choices, split, by_time=moment is not None)


def _arrays(path: Path, target: str | None) -> str:
    found = survey.arrays(path, target)
    profiles = _profiles(found)
    if target in found.shapes:
        raise DataError(
            "--target", [f"{target} is {list(found.shapes[str(target)])}: one value for each row is expected"]
        )
    target = suggest.check_target(target, profiles)
    asked = suggest.question(target, profiles[target], found.sample[target])
    split = _random(found, profiles, asked)
    pictures = [name for name, shape in found.shapes.items() if _is_picture(shape)]
    if pictures:
        return _of_pictures(path, found, asked, pictures, split)
    choices = suggest.choose(profiles, found.sample, asked, _min_count(found.rows) or 10, found.zeros)
    taken = {target, *(choice.name for choice in choices)}
    for name, shape in found.shapes.items():
        choices.append(_matrix(name, shape, column_names.feature_name(name, taken)))
    return _of_columns(path, found, profiles, asked, choices, split, by_time=False)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))


def _matrix(name: str, shape: tuple[int, ...], feature: str) -> Choice:
    if len(shape) == 2:
        return Choice(name, "number", f"{shape[1]:,} numbers: {name}_0, {name}_1 and so on", name=feature)
    return Choice(name, None, f"{list(shape)} is neither numbers nor pictures")


def _profiles(found: Survey) -> dict[str, Profile]:
    """What the sample says of each column, but for missing values what the format says of all rows."""
    profiles = {name: profile(name, found.sample[name]) for name in found.sample.column_names}
    if found.whole:
        return profiles
    return {name: _scaled(each, found) for name, each in profiles.items()}


def _scaled(each: Profile, found: Survey) -> Profile:
    """A value that is missing beyond the sample makes a column of the sample one with a missing value."""
    beyond = found.missing.get(each.name, 0)
    return replace(each, missing=max(each.missing, 1)) if beyond and not each.missing else each


def _min_count(rows: int) -> int | None:
    """Rows that a category needs, where that is not the default."""
    return 2 if rows < 2_000 else 5 if rows < 20_000 else None


def _without(choices: Sequence[Choice], column: str, reason: str) -> list[Choice]:
    return [Choice(each.column, None, reason) if each.column == column else each for each in choices]


def _split(path: Path, found: Survey, profiles: dict[str, Profile], asked: Question) -> tuple[Section, str | None]:
    """And the column it goes by, where it goes by time."""
    reason = RANDOM
    for moment in _moments(found, profiles):
        days, counts = survey.days(path, moment.name)
        cuts = _cuts(days, counts)
        if cuts and _has_classes(found.sample, moment.name, cuts, asked):
            ordered = "the rows lie in its order" if moment.trend else "it says when a row came about"
            validation, test = cuts
            return [
                Line("[split]"),
                Line('by = "time"', f"{ordered}: learn from the past, test on what came after"),
                Line(f"column = {draft.quoted(moment.name)}", f"{days[0]} to {days[-1]}"),
                Line(f"validation_from = {validation}", f"after {VALIDATION_FROM:.0%} of the rows"),
                Line(f"test_from = {test}", f"after {TEST_FROM:.0%}"),
            ], moment.name
        why = "would lack a class in some part" if cuts else "has too few days"
        reason = f"{moment.name} says when a row came about, but {why}"
    return _random(found, profiles, asked, reason), None


def _random(found: Survey, profiles: dict[str, Profile], asked: Question, reason: str = RANDOM) -> Section:
    lines = list(draft.random_split(found.rows, reason + ("; each class has its share" if asked.classes else "")))
    for entity in suggest.entities(profiles, asked.target)[:1]:
        name = draft.quoted(entity.name)
        lines.append(Line('# by = "group"', f"if rows of one {entity.name} are alike: keeps them in one part"))
        lines.append(Line(f"# column = {name}", f"{entity.distinct:,} different"))
    return lines


def _moments(found: Survey, profiles: dict[str, Profile]) -> list[Profile]:
    """Columns that may say when a row came about, the likeliest first: those that the rows lie in the order of, then
    those that are called so."""
    dates = [each for each in profiles.values() if each.kind == "date" and not each.missing and each.distinct > 1]
    shares = {each.name: _in_order(found.sample[each.name]) for each in dates}
    likely = [each for each in dates if shares[each.name] >= IN_ORDER or column_names.is_moment(each.name)]
    return sorted(likely, key=lambda each: -shares[each.name])


def _in_order(column: pa.ChunkedArray) -> float:
    """Share of the steps from row to row that go forward in time, or backward where more do."""
    steps = np.diff(pc.cast(column, pa.timestamp("us"), safe=False).to_numpy().astype(np.int64))
    steps = steps[steps != 0]
    forward = float((steps > 0).mean()) if steps.size else 0.0
    return max(forward, 1 - forward)


def _cuts(days: Sequence[date], counts: Sequence[int]) -> tuple[date, date] | None:
    """The first days of validation and of test; None where there are too few days for that."""
    if len(days) < FEWEST_DAYS:
        return None
    passed, rows = list(accumulate(counts)), sum(counts)
    validation, test = (days[next(i for i, n in enumerate(passed) if n > share * rows)] for share in
                        (VALIDATION_FROM, TEST_FROM))  # fmt: skip
    return (validation, test) if days[0] < validation < test else None


def _has_classes(sample: pa.Table, moment: str, cuts: tuple[date, date], asked: Question) -> bool:
    """Whether each part would have rows of each class that is not rare."""
    needed = [label for label, rows in asked.classes.items() if len(asked.classes) == 2 or rows > RARE * len(sample)]
    when = pc.cast(sample[moment], pa.date32())
    ends = [pa.scalar(cut, pa.date32()) for cut in cuts]
    before, after = pc.less(when, ends[0]), pc.greater_equal(when, ends[1])
    for part in (before, pc.invert(pc.or_(before, after)), after):
        counts = value_counts(as_text(sample[str(asked.target)].filter(part))) if asked.classes else {}
        if any(counts.get(label, 0) < FEWEST_OF_A_CLASS for label in needed):
            return False
    return True


def _of_columns(
    path: Path,
    found: Survey,
    profiles: dict[str, Profile],
    asked: Question,
    choices: list[Choice],
    split: Section,
    *,
    by_time: bool,
) -> str:
    choices, preset, reason = _preset(found.sample, asked, choices)
    if not any(choice.kind for choice in choices):
        reasons = [f"{choice.column}: {choice.reason}" for choice in choices]
        raise DataError(str(path), ["no column is left to predict from", *reasons])
    learn = round(found.rows * (VALIDATION_FROM if by_time else 0.65))
    words = max((profiles[choice.column].words for choice in choices if choice.kind == "text"), default=0.0)
    model = draft.text(reason, words) if preset == "text" else draft.tabular(learn, reason)
    named = [choice for choice in choices if choice.column in profiles]  # and not a matrix, which is many features
    categories = [choice for choice in choices if choice.kind == "category"]
    values = {each.column: _some_values(found.sample[each.column]) for each in categories[:1]}
    sections = [
        draft.head(column_names.model_name(path.stem), asked),
        draft.data(str(path), asked, _min_count(found.rows) if categories else None),
        split,
        draft.features(choices),
        model,
        draft.training(learn, preset, asked, by_time=by_time),
    ]
    return _text(path, _looked_at(found), found.notes, sections, draft.ideas(asked, named, values))


def _some_values(column: pa.ChunkedArray) -> list[str]:
    counts = value_counts(column.cast(pa.string()))
    return sorted(counts, key=lambda value: (-counts[value], value))[:2]


def _preset(sample: pa.Table, asked: Question, choices: list[Choice]) -> tuple[list[Choice], str, str]:
    """Texts alone, or the other columns alone: whichever tell more, where there are both."""
    texts = [choice for choice in choices if choice.kind == "text"]
    others = [choice for choice in choices if choice.kind in ("number", "category")]
    if not texts:
        return choices, "tabular", "numbers and categories into a multilayer perceptron"
    if not others:
        return choices, "text", "words into embeddings, a convolution and pooling"
    kinds = {choice.column: str(choice.kind) for choice in others}
    grades = contest.contest(sample, str(asked.target), asked.task, [each.column for each in texts], kinds)
    measure = {"binary": "ROC AUC", "multiclass": "accuracy", "regression": "R2"}[asked.task]
    seen = ", ".join(f"{name} {grade.value:.2f}" for name, grade in grades.items())
    winner = max(grades, key=lambda name: grades[name].value)
    losers = {choice.column for choice in (others if winner == "text" else texts)}
    reason = f"the preset takes {'texts' if winner == 'text' else 'numbers and categories'} alone"
    kept = [Choice(each.column, None, reason) if each.column in losers else each for each in choices]
    return kept, winner, f"of texts and other columns what tells more; quick models: {measure} by {seen}"


def _pictures(folder: Path, target: str | None) -> str:
    if target is not None:
        raise DataError("--target", ["the class of a picture is the subfolder it is in; leave --target out"])
    found = survey.pictures(folder)
    asked = suggest.classes_question(None, found.classes)
    rows = sum(found.classes.values())
    height, width = _size(found.sizes)
    seen = f"pictures are {height} x {width} pixels" if len(set(found.sizes)) == 1 else "pictures differ in size"
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    options: tuple[str, ...] = ()
    if scale < 1 or len(set(found.sizes)) > 1:
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        options = (f"size = [{height}, {width}]",)
        seen += "; smaller ones train faster, larger ones may be told better" if scale < 1 else "; this is usual"
    choice = Choice("image", "image", seen, name="image", options=options)
    sections = [
        draft.head(column_names.model_name(folder.resolve().name), asked),
        draft.data(str(folder), asked, None),
        draft.random_split(rows, "each class has its share in every part"),
        draft.features([choice]),
        draft.image(height, width),
        draft.training(round(rows * 0.65), "image", asked, by_time=False),
    ]
    return _text(folder, f"{rows:,} pictures", (), sections, draft.ideas(asked, [choice], {}))


def _size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The median height and width."""
    if not sizes:
        raise DataError("data.path", ["none of the pictures can be read"])
    heights, widths = zip(*sizes, strict=True)
    return int(np.median(heights)), int(np.median(widths))


def _of_pictures(path: Path, found: Survey, asked: Question, pictures: Sequence[str], split: Section) -> str:
    first = pictures[0]
    shape = found.shapes[first]
    others = [name for name in (*found.sample.column_names, *found.shapes) if name not in (first, asked.target)]
    name = column_names.feature_name(first, {str(asked.target)})
    choices = [
        Choice(first, "image", f"{shape[1]} x {shape[2]} pixels", name=name),
        *(Choice(other, None, "the preset takes one image, and nothing beside it") for other in others),
    ]
    sections = [
        draft.head(column_names.model_name(path.stem), asked),
        draft.data(str(path), asked, None),
        split,
        draft.features(choices),
        draft.image(shape[1], shape[2]),
        draft.training(round(found.rows * 0.65), "image", asked, by_time=False),
    ]
    return _text(path, _looked_at(found), found.notes, sections, draft.ideas(asked, choices, {}))


def _looked_at(found: Survey) -> str:
    if found.whole:
        return f"{found.rows:,} rows"
    return f"about {found.rows:,} rows, of which {len(found.sample):,} were looked at"


def _text(path: Path, seen: str, notes: Sequence[str], sections: Sequence[Section], ideas: str) -> str:
    first = [draft.comment(f"Made by hornpipe init from {path}: {seen}."), *map(draft.comment, notes)]
    return (
        "\n\n".join(["\n".join([*first, draft.lay_out(sections[0])]), *map(draft.lay_out, sections[1:]), ideas]) + "\n"
    )
