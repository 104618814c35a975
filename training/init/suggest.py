"""What a person would choose for a data set, and why: the task, the kind of each column, and which columns to leave."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from training.checking.same import is_target
from training.errors import DataError, did_you_mean
from training.init import column_names
from training.init.profile import Profile
from training.sources.columns import as_text, value_counts
from training.task import TaskName

MOST_CLASSES = 20  # of whole numbers; more than this are amounts
MOST_NAMED_CLASSES = 1000
MOSTLY_MISSING = 0.99
IDENTIFIER_SHARE = 0.9  # of different values among the rows
FEWEST_ROWS_FOR_IDENTIFIERS = 30
TEXT_WORDS = 3.0
TEXT_DISTINCT_SHARE = 0.3
FEW_VALUES = 20
CODE_ROWS = 20  # a value: enough to learn something of each
IMBALANCE = 10.0


@dataclass(frozen=True)
class Question:
    """What is predicted. `classes` are the rows by class, the most frequent first; none for regression."""

    target: str | None
    task: TaskName
    reason: str
    classes: Mapping[str, int]
    positive: str | None = None
    positive_reason: str = ""

    @property
    def imbalance(self) -> float:
        """Rows of the most frequent class for one of the rarest."""
        return max(self.classes.values()) / min(self.classes.values()) if self.classes else 1.0


@dataclass(frozen=True)
class Choice:
    """One feature, or why a column is none (`kind` is None). `options` are what its config says besides."""

    column: str
    kind: str | None
    reason: str
    name: str = ""
    optional: bool = False
    options: tuple[str, ...] = ()


def question(target: str, profile: Profile, column: pa.ChunkedArray) -> Question:
    """Raises DataError for a column that nothing can be learnt to predict."""
    if profile.missing:
        raise DataError(
            f"--target {target}",
            [
                f"{profile.missing:,} of {profile.rows:,} rows have no {target}; training needs it in every row:"
                " write the data without these rows"
            ],
        )
    if profile.distinct < 2 or profile.kind in ("date", "empty", "other"):
        what = f"is {column.type}" if profile.kind in ("date", "other") else f"has {profile.distinct} different values"
        raise DataError(f"--target {target}", [f"{target} {what}: expected two classes or more, or numbers"])
    if profile.kind == "fraction":
        return Question(target, "regression", "numbers with fractions", {})
    counts = dict(sorted(value_counts(as_text(column)).items(), key=lambda item: (-item[1], item[0])))
    if profile.kind == "whole" and not _are_classes(profile, counts):
        return Question(target, "regression", f"{profile.distinct:,} different whole numbers", {})
    if len(counts) > min(MOST_NAMED_CLASSES, profile.rows / 2):
        raise DataError(
            f"--target {target}",
            [f"{target} has {len(counts):,} different values in {profile.rows:,} rows: too many to be classes"],
        )
    asked = classes_question(target, counts, profile.kind == "whole")
    if profile.blanks:
        note = f"{profile.blanks[0]} is a class like any other; if it means missing, leave its rows out"
        asked = replace(asked, reason=f"{asked.reason}; {note}")
    return asked


def _are_classes(profile: Profile, counts: Mapping[str, int]) -> bool:
    """Few whole numbers; or more of them that count up without a gap and are about equally frequent, as amounts are
    not."""
    if profile.distinct <= MOST_CLASSES:
        return True
    no_gap = profile.highest - profile.lowest + 1 == profile.distinct
    even = min(counts.values()) >= CODE_ROWS and max(counts.values()) <= 5 * min(counts.values())
    return no_gap and even and profile.lowest in (0, 1) and profile.distinct <= MOST_NAMED_CLASSES


def classes_question(target: str | None, counts: Mapping[str, int], whole: bool = False) -> Question:
    """`counts` are the rows of each class, the most frequent first."""
    if len(counts) > 2:
        reason = f"{len(counts)} classes"
        reason += '; if they are amounts: task = "regression"' if whole else ""
        return Question(target, "multiclass", reason, counts)
    positive, why = _positive(counts)
    return Question(target, "binary", "two classes", counts, positive, why)


def _positive(counts: Mapping[str, int]) -> tuple[str, str]:
    frequent, rare = counts
    words = {name: name.strip().lower().replace(" ", "_") for name in counts}
    asked = [name for name, word in words.items() if word in column_names.POSITIVE]
    others = [name for name, word in words.items() if word in column_names.NEGATIVE]
    if len(asked) == 1:
        return asked[0], "what is asked for"
    if len(others) == 1 and not asked:
        return (rare if others[0] == frequent else frequent), f"the other is {others[0]}"
    return rare, "the rarer class"


def choose(
    profiles: Mapping[str, Profile], table: pa.Table, asked: Question, min_count: int, codes: Iterable[str] = ()
) -> list[Choice]:
    """For each column but the target: a feature or not. `codes` are whole numbers written with leading zeros."""
    taken = {asked.target} if asked.target else set()
    choices = []
    for name, profile in profiles.items():
        if name == asked.target:
            continue
        choice = _choice(profile, min_count, name in set(codes))
        if choice.kind and asked.target and is_target(table[name], table[asked.target], asked.task):
            choice = Choice(name, None, f"says the same as {asked.target} in every row: it would give the answer away")
        if choice.kind:
            choice = replace(choice, name=column_names.feature_name(name, taken), optional=profile.missing > 0)
            taken.add(choice.name)
        choices.append(choice)
    return choices


def _choice(profile: Profile, min_count: int, is_code: bool) -> Choice:
    if reason := _useless(profile):
        return Choice(profile.name, None, reason)
    match profile.kind:
        case "truth":
            return Choice(profile.name, "category", "true or false")
        case "text":
            return _text(profile, min_count)
        case _:
            return _number(profile, min_count, is_code)


def _useless(profile: Profile) -> str | None:
    """Why nothing can be learnt from a column, whatever the task."""
    if profile.kind == "empty":
        return "every value is missing"
    if profile.kind == "date":
        return "a date is no feature; make month, weekday, hour or an age of it"
    if profile.kind == "other":
        return "neither numbers nor text"
    if profile.missing_share >= MOSTLY_MISSING:
        return f"{profile.missing_share:.1%} of the values are missing"
    if profile.infinite:
        return f"{profile.infinite:,} values are infinite; leave them empty and it can be a number"
    if profile.distinct == 1 and not profile.missing:
        return f"always {profile.frequent[:40]}"
    return None


def _text(profile: Profile, min_count: int) -> Choice:
    if profile.dated:
        return Choice(profile.name, None, "dates in a form of their own; write them as 2013-01-31 to split by them")
    if profile.words >= TEXT_WORDS and profile.distinct_share >= TEXT_DISTINCT_SHARE:
        return Choice(profile.name, "text", f"{profile.words:.0f} words on average, {profile.distinct:,} different")
    if profile.distinct_share >= IDENTIFIER_SHARE and profile.known >= FEWEST_ROWS_FOR_IDENTIFIERS:
        return Choice(
            profile.name, None, f"looks like an identifier: {profile.distinct:,} different in {profile.known:,}"
        )
    if profile.most < 2 * min_count:
        seen = f"{profile.distinct:,} different values, none more than {profile.most} times"
        return Choice(profile.name, None, f"too many values to learn from any: {seen}")
    if column_names.is_identifier(profile.name) and profile.known < CODE_ROWS * profile.distinct:
        return Choice(profile.name, None, _entity(profile))
    reason = f"{profile.distinct:,} different, most often {_quoted(profile.frequent)}"
    if profile.blanks:
        reason += f'; "{profile.blanks[0]}" is a value like any other'
    return Choice(profile.name, "category", reason)


def _quoted(text: str) -> str:
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return clean if len(clean) <= 30 else f"{clean[:27]}..."


def _entity(profile: Profile) -> str:
    return f"looks like an identifier: {profile.distinct:,} different in {profile.known:,} rows"


def _number(profile: Profile, min_count: int, is_code: bool) -> Choice:
    if profile.kind == "fraction":
        return Choice(profile.name, "number", f"{profile.lowest:.6g} to {profile.highest:.6g}")
    all_different = profile.distinct == profile.known >= FEWEST_ROWS_FOR_IDENTIFIERS
    if all_different and profile.trend:
        return Choice(profile.name, None, "counts the rows, so that it says nothing of a new one")
    named = column_names.is_identifier(profile.name)
    if named and profile.known < CODE_ROWS * profile.distinct and profile.distinct > FEW_VALUES:
        return Choice(profile.name, None, _entity(profile))
    learnable = profile.most >= 2 * min_count and profile.distinct > 2
    if learnable and (is_code or named or column_names.is_code(profile.name)):
        why = "written with leading zeros" if is_code else "by its name"
        return Choice(profile.name, "category", f"{profile.distinct:,} codes, {why}; an amount would be a number")
    reason = f"{profile.lowest:.6g} to {profile.highest:.6g}"
    if 2 < profile.distinct <= FEW_VALUES:
        reason += f', {profile.distinct} different; "category" if they are codes'
    return Choice(profile.name, "number", reason)


def entities(profiles: Mapping[str, Profile], target: str | None) -> list[Profile]:
    """Columns that look like what several rows each belong to: a customer, a patient, a machine."""
    return [
        each
        for each in profiles.values()
        if each.name != target
        and each.kind in ("whole", "text")
        and column_names.is_identifier(each.name)
        and not each.missing
        and 10 <= each.distinct <= each.rows / 2
    ]


def check_target(target: str | None, profiles: Mapping[str, Profile]) -> str:
    """Raises DataError without a target, or with one that is not there."""
    if target is None:
        likely = likely_targets(profiles.values())
        hint = [f"likely: {', '.join(likely)}"] if likely else []
        names = ", ".join(profiles)
        raise DataError("--target", ["say which column is to be predicted", *hint, f"columns: {names}"])
    if target not in profiles:
        raise DataError("--target", [f"no column {target!r}; {did_you_mean(target, profiles)}"])
    return target


def likely_targets(profiles: Iterable[Profile]) -> list[str]:
    """The most likely first: named like one, then the last column, where it has few values."""
    columns = list(profiles)
    fit = [each for each in columns if each.kind in ("whole", "fraction", "text", "truth") and each.distinct > 1]
    named = [each for each in fit if column_names.is_answer(each.name)]
    last = [each for each in fit[-1:] if each.distinct <= MOST_CLASSES or each.kind == "fraction"]
    two = [each for each in fit if each.distinct == 2]
    return list(dict.fromkeys(each.name for each in (*named, *last, *two)))[:5]
