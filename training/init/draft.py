"""A training config as text: TOML with the reasons beside it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

from training.init.suggest import IMBALANCE, Choice, Question
from training.sections import TrainingSection

WIDTH = 120
BESIDE = 80  # a line that is longer does not push the reasons of the others to the right
# Of the optimizer: enough for a small network, and for its moving average to forget the beginning. Texts are learnt by
# heart long before.
STEPS = {"tabular": 2_000, "image": 2_000, "text": 300}
LARGE, HUGE = 100_000, 1_000_000  # rows
FEWEST_EPOCHS = 3


@dataclass(frozen=True)
class Line:
    """A key with its value, and why."""

    text: str
    reason: str = ""


Section = Sequence[Line]


def quoted(text: str) -> str:
    """A TOML basic string: JSON's, but for the one control character that JSON lets through."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def comment(text: str) -> str:
    """On one line whatever a column is called."""
    return "# " + "".join(character if character.isprintable() else "?" for character in text)


def lay_out(lines: Section) -> str:
    """Reasons beside their lines where there is room, else above."""
    beside = [line for line in lines if line.reason]
    widest = max((len(line.text) for line in beside if len(line.text) <= BESIDE), default=0)
    return "\n".join(_line(line, widest) for line in lines)


def _line(line: Line, widest: int) -> str:
    if not line.reason:
        return line.text
    full = f"{line.text:<{widest}}  {comment(line.reason)}"
    return full if len(full) <= WIDTH else f"{comment(line.reason)}\n{line.text}"


def head(name: str, asked: Question) -> Section:
    reason = asked.reason
    if asked.classes:
        counts = [f"{label} {count:,}" for label, count in list(asked.classes.items())[:4]]
        more = f" and {len(asked.classes) - 4} more" if len(asked.classes) > 4 else ""
        reason = f"{reason} (rows: {', '.join(counts)}{more})"
    return [Line(f"name = {quoted(name)}"), Line(f"task = {quoted(asked.task)}", reason)]


def data(path: str, asked: Question, min_count: int | None) -> Section:
    lines = [Line("[data]"), Line(f"path = {quoted(path)}")]
    if asked.target is not None:
        lines.append(Line(f"target = {quoted(asked.target)}"))
    if asked.positive is not None:
        lines.append(Line(f"positive = {quoted(asked.positive)}", asked.positive_reason))
    if min_count is not None:
        lines.append(Line(f"category_min_count = {min_count}", "few rows: learn from categories that have fewer too"))
    return lines


def random_split(rows: int, reason: str) -> Section:
    validation, test = (0.15, 0.25) if rows < 2_000 else (0.1, 0.2) if rows < 1_000_000 else (0.02, 0.05)
    return [
        Line("[split]"),
        Line('by = "random"', reason),
        Line(f"validation = {validation}"),
        Line(f"test = {test}"),
    ]


def features(choices: Sequence[Choice]) -> Section:
    kept = [choice for choice in choices if choice.kind]
    left = [choice for choice in choices if not choice.kind]
    lines = [Line("[features]"), *(Line(_feature(choice), choice.reason) for choice in kept)]
    if left:
        lines += [Line("# Left out:"), *(Line(comment(f"{choice.column}: {choice.reason}")) for choice in left)]
    return lines


def _feature(choice: Choice) -> str:
    parts = [f"kind = {quoted(str(choice.kind))}"]
    if choice.name != choice.column:
        parts.append(f"column = {quoted(choice.column)}")
    if choice.optional:
        parts.append("optional = true")
    parts += choice.options
    short = quoted(str(choice.kind)) if len(parts) == 1 else f"{{ {', '.join(parts)} }}"
    return f"{choice.name} = {short}"


def number_bins(rows: int) -> int:
    """So that a bin of a number has fifty training rows or more."""
    return 1 << min(5, max(2, int(log2(max(4, rows / 50)))))


def tabular(rows: int, reason: str) -> Section:
    lines = [Line("[model]"), Line('preset = "tabular"', reason)]
    if (bins := number_bins(rows)) < 32:
        lines.append(Line(f"number_bins = {bins}", f"{rows:,} training rows: fifty or more in each bin"))
    return lines


def image(height: int, width: int) -> Section:
    lines = [Line("[model]"), Line('preset = "image"', "a small residual network; training pictures are augmented")]
    if min(height, width) < 16:
        lines.append(Line("widths = [32, 64]", f"{height} x {width} pixels can be halved but once"))
    lines.append(Line("# flip = true", "if left and right mean nothing, as they do in writing"))
    return lines


def text(reason: str, words: float) -> Section:
    lines = [Line("[model]"), Line('preset = "text"', reason)]
    if words > 60:
        lines.append(Line(f"words = {min(400, ceil(words * 2 / 50) * 50)}", f"of a text; {words:.0f} on average"))
    return lines


def training(rows: int, preset: str, asked: Question, *, by_time: bool) -> Section:
    """`rows` that train. A batch is about a twenty-fourth of few rows, so that an epoch has steps enough."""
    usual = TrainingSection()
    most = {"tabular": usual.batch_size, "text": 256, "image": 128}[preset]
    batch = int(min(most, max(32, 2 ** round(log2(max(32, rows / 24))))))
    per_epoch = max(1, rows // batch)
    fewest = usual.epochs if rows < HUGE else FEWEST_EPOCHS
    epochs = min(100, max(fewest, ceil(STEPS[preset] / per_epoch)))
    lines = [Line("[training]"), Line(f"batch_size = {batch}", f"{per_epoch:,} steps an epoch")]
    reason = f"{epochs * per_epoch:,} steps in all, fewer where validation stops getting better"
    if by_time and rows > LARGE:
        epochs, reason = FEWEST_EPOCHS, "few: what is learnt by heart of these months does not hold in the next"
    lines.append(Line(f"epochs = {epochs}", reason))
    often = 1 if epochs > usual.epochs else 2
    lines.append(Line(f"evaluations_per_epoch = {often}"))
    lines.append(Line(f"patience = {max(4, epochs * often // 5)}", "evaluations without a better one"))
    if asked.imbalance >= IMBALANCE:
        reason = f"{asked.imbalance:,.0f} rows of the most frequent class for one of the rarest"
        lines.append(Line('class_weights = "balanced"', reason))
    return lines


def ideas(asked: Question, choices: Sequence[Choice], values: dict[str, list[str]]) -> str:
    """What a person may want to ask for, as comments that are a valid config without their #. `values` are some of
    each category."""
    parts = []
    if asked.task == "binary":
        parts.append(
            "[serving]\n"
            'threshold = "f1"                        # or { precision = 0.9 }, { recall = 0.9 }, { cost = [1, 5] }'
        )
    floor = {"binary": "roc_auc = 0.7", "multiclass": "f1_macro = 0.7", "regression": "r2 = 0.5"}[asked.task]
    parts.append(f"[gate]\nminimum = {{ {floor} }}             # what every version must reach to serve")
    number = next((choice for choice in choices if choice.kind == "number"), None)
    category = next((choice for choice in choices if len(values.get(choice.column, [])) > 1), None)
    if number:
        parts.append(
            f'[[checks]]\nkind = "direction"                     # more of this must not lower the answer\n'
            f'feature = "{number.name}"\nby = 1.0\nanswer = "up"'
        )
    if category:
        listed = ", ".join(map(quoted, values[category.column]))
        parts.append(
            f'[[checks]]\nkind = "invariance"                    # this must not move the answer\n'
            f'feature = "{category.name}"\nvalues = [{listed}]'
        )
    lines = "\n\n".join(parts).splitlines()
    return "\n".join(["# To ask for more, remove the #:", "", *(f"# {line}" if line else "" for line in lines)])
