"""The sections of a training config that say which rows there are, and which of them train, validate and test."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.retrain import Duration, seconds_of


class Section(BaseModel):
    """Base of every section: frozen, strict, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Window(Section):
    """Which rows are read by their time: those of the `last` days, hours or minutes before the newest row, which is
    looked up in the data and not on the clock, so that the same data always give the same rows; or all from the day
    `since` on. `column` is the time of a row, by default the one that the split goes by."""

    column: str | None = None
    last: Duration | None = None
    since: date | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Window":
        if (self.last is None) == (self.since is None):
            raise ValueError('expected either last, as in last = "180d", or since, as in since = 2013-01-01')
        _positive(last=self.last)
        return self


Value = bool | int | float | str | date


class DataSection(Section):
    """`path` is a Parquet or CSV file or a folder of them, a glob such as "flights-*.parquet", or a list of these; a
    folder with a subfolder of pictures for each class; or a .npz file of arrays. A folder called key=value is a column
    of the rows below it. `where` keeps the rows whose column has that value, or one of several.

    `target` is the column or array to predict (the subfolder, for pictures); `positive` is the binary target's value
    that is predicted. `stream` trains from disk, for data that does not fit into memory. A category with fewer than
    `category_min_count` training rows counts as unseen, so that rare rows train that.

    `labelled` adds the service's logged rows whose labels have come: from the folder given, or from
    HORNPIPE_PREDICTIONS_DIR where it is true. `increment` says whether rows that are newer than those of the version
    that serves are compared with what it learnt from, and refused where they cannot be true."""

    path: str | Annotated[list[str], Field(min_length=1)]
    where: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(default={})
    window: Window | None = None
    target: str | None = None
    positive: str | None = None
    stream: Literal["auto"] | bool = "auto"
    category_min_count: int = Field(default=10, ge=1)
    labelled: bool | str = False
    increment: Literal["check", "accept"] = "check"

    @property
    def paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path

    @property
    def source(self) -> str:
        """What to call the data in a message."""
        more = f" and {len(self.paths) - 3} more" if len(self.paths) > 3 else ""
        return ", ".join(self.paths[:3]) + more


class TimeSplit(Section):
    """What serving will really be like. By dates: rows before `validation_from` train, rows from `test_from` on test.
    Or by spans: of the rows until the newest, the last `test` test, the `validation` before them validate, and all that
    are older train."""

    by: Literal["time"]
    column: str
    validation_from: date | None = None
    test_from: date | None = None
    validation: Duration | None = None
    test: Duration | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "TimeSplit":
        dates, spans = (self.validation_from, self.test_from), (self.validation, self.test)
        if all(dates) == all(spans) or (any(dates) and any(spans)):
            raise ValueError(
                "expected either two dates, validation_from and test_from, or two spans, validation and test, as in"
                ' validation = "14d", test = "28d"'
            )
        _positive(validation=self.validation, test=self.test)
        if self.validation_from and self.test_from and self.validation_from >= self.test_from:
            raise ValueError("validation_from must be before test_from")
        return self


class Shares(Section):
    """Shares of all rows; the rest trains."""

    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "Shares":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave rows to train on")
        return self


class RandomSplit(Shares):
    """Any rows, each class in its share. Flatters a model whose data changes with time."""

    by: Literal["random"]


class GroupSplit(Shares):
    """All rows of one value of `column` (a customer, a patient) together, so that none is in two parts."""

    by: Literal["group"]
    column: str


class OrderSplit(Shares):
    """The rows as they lie in the file: the first train, then validation, the last test."""

    by: Literal["order"]


Split = Annotated[TimeSplit | RandomSplit | GroupSplit | OrderSplit, Field(discriminator="by")]


def _positive(**spans: str | None) -> None:
    for name, span in spans.items():
        if span is not None and seconds_of(span) <= 0:
            raise ValueError(f"{name} must be longer than {span}")
