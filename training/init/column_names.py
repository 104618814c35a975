"""What the name of a column gives away: "customer_id" is no amount, and "yes" is what is asked for."""

import re
from collections.abc import Iterable

IDENTIFIERS = frozenset({"id", "ids", "uuid", "guid", "key", "idx", "rowid", "unnamed"})
NUMBERS = frozenset({"number", "num", "nr", "no"})  # at the end: invoice_no, but not number_of_rooms
CODES = frozenset({"code", "codes", "zip", "zipcode", "postcode", "plz", "type", "category", "cluster", "sku"})
MOMENTS = frozenset({"date", "datetime", "time", "timestamp", "day", "created", "at", "ordered", "recorded", "ds"})
ANSWERS = frozenset(
    {"target", "label", "labels", "class", "y", "outcome", "answer", "response", "result", "survived", "species"}
    | {"churn", "churned", "fraud", "default", "diagnosis", "price", "quality", "section"}
)
POSITIVE = frozenset(
    {"yes", "y", "true", "t", "1", "1.0", "positive", "pos", "late", "spam", "fraud", "fraudulent", "malignant", "bad"}
    | {"churn", "churned", "default", "defaulted", "sick", "ill", "dead", "died", "failed", "fail", "failure", "defect"}
    | {"won", "bought", "clicked", "anomaly", "abnormal", "attack", "toxic", "cancelled"}
)
NEGATIVE = frozenset(
    {"no", "n", "false", "f", "0", "0.0", "-1", "negative", "neg", "on_time", "ham", "legit", "benign", "good", "none"}
    | {"retained", "stayed", "paid", "healthy", "well", "alive", "survived", "passed", "pass", "success", "ok"}
    | {"lost", "normal", "nothing"}
)


def tokens(name: str) -> list[str]:
    """The words of a name, in lower case: "CustomerID_2" is customer, id, 2."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_identifier(name: str) -> bool:
    words = tokens(name)
    return not IDENTIFIERS.isdisjoint(words) or words == ["index"] or (len(words) > 1 and words[-1] in NUMBERS)


def is_code(name: str) -> bool:
    return not CODES.isdisjoint(tokens(name))


def is_moment(name: str) -> bool:
    return not MOMENTS.isdisjoint(tokens(name))


def is_answer(name: str) -> bool:
    return not ANSWERS.isdisjoint(tokens(name))


def feature_name(column: str, taken: Iterable[str]) -> str:
    """A name for the feature of a column: the column's own where it may be one, else its letters and digits; never one
    of `taken`."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_") if not is_feature_name(column) else column
    name = name if re.match(r"[A-Za-z]", name) else f"column_{name}".rstrip("_")
    others, unique, count = set(taken), name, 2
    while unique in others:
        unique, count = f"{name}_{count}", count + 1
    return unique


def is_feature_name(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None


def model_name(text: str) -> str:
    """A name for the model of a file or folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text.lower()).strip("._-")
    return name[:64].rstrip("._-") or "model"
