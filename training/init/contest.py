"""Whether texts or the other columns tell more of the target: the presets take one of the two."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from training.checking import quick
from training.checking.quick import Grade
from training.rows import Indices
from training.sections import FeatureSection
from training.sources.columns import as_texts
from training.task import TaskName

MOST_ROWS = 2_000
MOST_WORDS = 5_000
HELD_OUT = 4  # one row in so many


def contest(table: pa.Table, target: str, task: TaskName, texts: list[str], others: dict[str, str]) -> dict[str, Grade]:
    """How well quick models told held-out rows by the texts and by the `others` (column to kind), by "text" and
    "tabular"."""
    rows = table.take(pa.array(quick.evenly(np.arange(len(table)), MOST_ROWS)))
    answers = quick.answers(rows[target], task)
    order = np.random.default_rng(0).permutation(len(rows))
    held, learnt = order[: len(rows) // HELD_OUT], order[len(rows) // HELD_OUT :]
    sections = {name: FeatureSection(kind=kind) for name, kind in others.items()}  # type: ignore[arg-type]
    x = quick.matrix(rows, sections)
    by_table = quick.boosted(x.take(learnt), answers[learnt], task, x.take(held))
    by_text = _by_words(rows, texts, answers, task, learnt, held)
    return {
        "text": quick.grade(task, answers[held], by_text),
        "tabular": quick.grade(task, answers[held], by_table),
    }


def _by_words(
    rows: pa.Table, texts: list[str], answers: NDArray[np.float64], task: TaskName, learnt: Indices, held: Indices
) -> NDArray[np.float64]:
    """A linear model of word weights (Salton and Buckley, Term-Weighting Approaches in Text Retrieval, 1988)."""
    joined = np.array([" ".join(parts) for parts in zip(*(as_texts(rows[name]) for name in texts), strict=True)])
    last = Ridge() if task == "regression" else LogisticRegression(C=10.0, max_iter=100)
    model = make_pipeline(TfidfVectorizer(max_features=MOST_WORDS, sublinear_tf=True), last)
    with threadpool_limits(1):
        model.fit(joined[learnt], answers[learnt])
    if task == "binary":
        return np.asarray(model.predict_proba(joined[held])[:, -1], np.float64)
    return np.asarray(model.predict(joined[held]), np.float64)
