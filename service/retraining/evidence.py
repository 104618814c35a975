"""What speaks for training a model again, as of now: its schedule, new labels, worse quality."""

from collections.abc import Sequence
from datetime import datetime

from contract.evidence import Metric, improvement
from contract.job import Job
from contract.retrain import OnQuality
from contract.trigger import Evidence, due, learned
from service.labels.labelled import Labelled
from service.quality.quality import realised
from service.quality.rows import collected, known
from service.retraining.wish import Wish


def by_schedule(wish: Wish, last: datetime, now: datetime) -> Evidence | None:
    """Where it has come since it was last looked at."""
    at = due(wish.retrain, last, now)
    if at is None:
        return None
    what = f"the schedule {wish.retrain.schedule} was due at {wish.retrain.said(at)}"
    return Evidence("schedule", what, what, at)


def by_labels(wish: Wish, labelled: Labelled, jobs: Sequence[Job]) -> Evidence | None:
    """Raises LabelsError."""
    wanted, name = wish.retrain.on_labels, wish.manifest.name
    since, event = _last_learned(wish, jobs)
    if wanted is None or labelled.received(name, since, wanted) < wanted:
        return None
    return Evidence("labels", f"on_labels = {wanted} is reached", f"{wanted:,} rows have got their label since {event}")


def by_quality(wish: Wish, labelled: Labelled, jobs: Sequence[Job], since: float) -> Evidence | None:
    """Of rows predicted since then, by the version in production. What labels said before the last job, it has had its
    turn to answer: as many have to come after it. Raises LabelsError."""
    wanted, name, version = wish.retrain.on_quality, wish.manifest.name, wish.manifest.version
    if wanted is None or labelled.received(name, _last_learned(wish, jobs)[0], wanted.rows) < wanted.rows:
        return None
    found = collected(labelled.joined(name, since, version=version, labelled=True)).get(version)
    rows = None if found is None else found[0].take(known(found[0]))
    if rows is None or len(rows) < wanted.rows:
        return None
    metric = realised(rows).get(wanted.metric)
    if metric is None or not worse(wanted, metric):
        return None
    bound = f"{'above' if improvement(wanted.metric, 0.0, 1.0) > 0 else 'below'} {wanted.bound:g}"
    of = f"{wanted.metric} of {len(rows):,} labelled rows of version {version}"
    why = f"{of} is {metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g}), {bound}"
    return Evidence("quality", f"on_quality: {wanted.metric} of version {version} is {bound}", why)


def worse(wanted: OnQuality, metric: Metric) -> bool:
    """Whether the whole interval is."""
    return max(improvement(wanted.metric, end, wanted.bound) for end in (metric.low, metric.high)) < 0


def _last_learned(wish: Wish, jobs: Sequence[Job]) -> tuple[float, str]:
    """Since when labels are new, in seconds since 1970, and what was then."""
    job, made = learned(jobs), wish.manifest.created.timestamp()
    if job is not None and (began := job.started_at or job.asked_at) > made:
        return began, f"job {job.id}"
    return made, f"version {wish.manifest.version} was made"
