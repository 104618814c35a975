"""The doctor's rules on how the losses go."""

from contract.evidence import Finding
from training.diagnosis import readings
from training.diagnosis.advice import number, rate, tabular
from training.diagnosis.signals import Evaluation, Facts, Record

# SageMaker Debugger, LossNotDecreasing: a fall of less than 0.1%.
NO_FALL = 0.001
# Weights that change by a thousandth a step learn well, much more is too fast, much less too slow (Karpathy, CS231n
# notes, "Ratio of weights:updates"); the first steps of healthy runs reach a hundredth. Thirty times and a tenth of
# it are "much" here, and never enough alone: the loss must suffer too. (SageMaker Debugger, WeightUpdateRatio, has 10
# and 1e-8: by then nothing else needs saying.)
GOOD_UPDATE = 1e-3
FAST_UPDATE, WILD_UPDATE, SLOW_UPDATE = 3e-2, 1e-1, 1e-4
# No better than knowing only how frequent the classes are: within 2% of that loss.
NO_BETTER = 0.98


def learning_rate_too_high(record: Record, facts: Facts) -> Finding | None:
    """Diverged or went back from a non-finite loss; or updates are far above a thousandth of the weights (above) while
    the loss went far above its start, or up and down by a tenth of what there is to learn, or learned nothing."""
    ratio = max((readings.typical_update(probe) or 0.0 for probe in record.probes), default=0.0)
    harm = _harm_of_speed(record, facts, ratio)
    if harm is None:
        return None
    peak = readings.peak_rate(record)
    slower = min(readings.sane_rate(record), peak * min(0.5, 0.5 ** len(record.rollbacks)))
    return Finding(
        rule="learning_rate_too_high",
        severity="error" if record.stopped == "diverged" else "warning",
        step=_last_step(record),
        evidence={"learning_rate": peak, "largest_update_ratio": ratio, "rollbacks": len(record.rollbacks)},
        series=readings.points(record.losses),
        cause=f"The steps are too large: {harm}.",
        fix=f"training.learning_rate = {rate(slower)}",
    )


def _harm_of_speed(record: Record, facts: Facts, ratio: float) -> str | None:
    if record.stopped == "diverged":
        return "the loss became infinite, and did so again at half, a quarter and an eighth of the learning rate"
    if record.rollbacks:
        return f"the loss became infinite at step {record.rollbacks[0]}, and half the learning rate was better"
    losses = readings.train_losses(record)
    if len(losses) < 2 or ratio < FAST_UPDATE:
        return None
    values = [value for _, value in losses]
    start = max(facts.initial_loss, facts.base_loss)
    if max(values) > 2 * start:
        return f"the loss went up to {number(max(values))}, from {number(start)} before training"
    if min(readings.rises(losses), readings.rises(readings.sample_losses(record)[1:])) > 0.1 * facts.base_loss:
        return "the network jumps over what it looks for, and the loss goes up and down instead of only down"
    if ratio > WILD_UPDATE and values[-1] > NO_BETTER * facts.base_loss:
        return "the first ones threw the network to where it can learn nothing"
    return None


def learning_rate_too_low(record: Record, facts: Facts) -> Finding | None:
    """Even the layer that moves most changes by less than a tenth of a thousandth a step (above), and after a quarter
    of the run or more the loss still has four fifths of its first value."""
    ratios = readings.points((p.step, readings.largest_update(p)) for p in readings.at_speed(record))
    ratio, losses = readings.latest(ratios), readings.sample_losses(record)
    if ratio is None or not losses or not 0 < ratio < SLOW_UPDATE or losses[-1][1] < 0.8 * facts.initial_loss:
        return None
    if readings.progress(record, facts) < readings.QUARTER:
        return None
    peak = readings.peak_rate(record)
    return Finding(
        rule="learning_rate_too_low",
        severity="warning",
        step=_last_step(record),
        evidence={
            "learning_rate": peak,
            "update_ratio": ratio,
            "first_loss": facts.initial_loss,
            "last_loss": losses[-1][1],
        },
        series=losses,
        cause="The steps are too small: the loss falls so slowly that this run cannot get anywhere.",
        fix=f"training.learning_rate = {rate(peak * min(1000.0, 2 * GOOD_UPDATE / ratio))}",
    )


def loss_not_falling(record: Record, facts: Facts) -> Finding | None:
    """After two evaluations and a quarter of the run, neither the training loss nor that of fixed weights is 0.1% below
    the loss of the untrained network (SageMaker Debugger, LossNotDecreasing)."""
    losses = readings.train_losses(record)
    if len(losses) < 2 or readings.progress(record, facts) < readings.QUARTER:
        return None
    lowest = min(value for series in (losses, readings.sample_losses(record)) for _, value in series)
    if lowest < (1 - NO_FALL) * facts.initial_loss:
        return None
    return Finding(
        rule="loss_not_falling",
        severity="error",
        step=_last_step(record),
        evidence={"first_loss": facts.initial_loss, "lowest_loss": lowest},
        series=losses,
        cause="The network learns nothing: what it was told to make smaller is as large as before training.",
        fix='training.learning_rate = "find"  # if that changes nothing, the inputs do not tell the target',
    )


def underfitting(record: Record, facts: Facts) -> Finding | None:
    """At its end it is, on its own training rows, within 2% of the loss of always giving the class shares (or the
    mean); or it ended while validation was still getting better: above half of that loss, and with 15% of all that it
    ever fell in the last third. The shares are ours."""
    losses = readings.sample_losses(record)
    if not losses or record.stopped == "running":
        return None
    if losses[-1][1] > NO_BETTER * facts.base_loss:
        return Finding(
            rule="underfitting",
            severity="error",
            step=_last_step(record),
            evidence={"train_loss": losses[-1][1], "loss_of_constant_answer": facts.base_loss},
            series=losses,
            cause="Even on the rows it learns from, the network answers no better than somebody who looks at no row.",
            fix=tabular(facts, "model.hidden = [256, 256, 256]", "give it more and wider layers"),
        )
    return _ended_early(record, facts)


def _ended_early(record: Record, facts: Facts) -> Finding | None:
    losses = readings.validation_losses(record)
    values = [value for _, value in losses]
    fall = values[-(len(values) // 3 + 1)] - values[-1]
    unfinished = values[-1] == min(values) and values[-1] > 0.5 * facts.base_loss
    if record.stopped != "finished" or len(values) < 3 or not unfinished:
        return None
    if fall < 0.15 * (facts.initial_loss - values[-1]):
        return None
    epochs = facts.steps / facts.steps_per_epoch
    return Finding(
        rule="underfitting",
        severity="warning",
        step=_last_step(record),
        evidence={"fall_in_last_third": fall, "last_loss": values[-1], "loss_of_constant_answer": facts.base_loss},
        series=losses,
        cause="Training ended while the network was still getting better quickly.",
        fix=f"training.epochs = {round(2 * epochs)}",
    )


def overfitting(record: Record, facts: Facts) -> Finding | None:
    """In each of the last three evaluations validation is worse than at its best by a tenth of what there is to learn
    and by two standard errors, while training went on improving; or validation never got better than the class shares
    while training did by a tenth. (SageMaker Debugger, Overfit, has one tenth of difference once: healthy runs on few
    rows have that.) Silent where early stopping ended the run in time."""
    best = min(record.evaluations, key=lambda each: each.validation_loss, default=None)
    if best is None or len(record.evaluations) < 4:
        return None
    last, train = record.evaluations[-1], readings.sample_losses(record)
    learned_by_heart = (
        best.validation_loss > facts.base_loss and train[-1][1] < 0.9 * facts.base_loss if train else False
    )
    got_worse = all(each.validation_loss > _tolerable(best, each, facts) for each in record.evaluations[-3:])
    in_time = record.stopped == "patience" and _kept(record).validation_loss <= _tolerable(best, best, facts)
    if not learned_by_heart and (not got_worse or in_time or last.train_loss >= best.train_loss):
        return None
    return Finding(
        rule="overfitting",
        severity="warning",
        step=best.step,
        evidence={
            "best_validation_loss": best.validation_loss,
            "last_validation_loss": last.validation_loss,
            "last_train_loss": last.train_loss,
            "best_epoch": best.epoch,
        },
        series=readings.validation_losses(record),
        cause="The network learns its training rows by heart, and gets worse on rows that it has not seen.",
        fix=_less_learning(best, facts),
    )


def _tolerable(best: Evaluation, each: Evaluation, facts: Facts) -> float:
    return best.validation_loss + max(0.1 * facts.base_loss, 2 * each.validation_error)


def _kept(record: Record) -> Evaluation:
    """The evaluation whose weights the run gives out."""
    return next(each for each in reversed(record.evaluations) if each.best)


def _less_learning(best: Evaluation, facts: Facts) -> str:
    if facts.preset in ("tabular", "text", "image", "application"):
        return "model.dropout = 0.5"
    return f"training.epochs = {max(1, round(best.epoch))}"


def validation_far_from_train(record: Record, facts: Facts) -> Finding | None:
    """At the first evaluation where the network has learned something (a tenth), and at the one after, validation is
    away from training rows, of the same weights, by a quarter of what there is to learn and by four standard errors:
    too early for overfitting. The margins are ours."""
    found = [i for i, e in enumerate(record.evaluations) if (e.sample_loss or facts.base_loss) < 0.9 * facts.base_loss]
    first = record.evaluations[found[0] : found[0] + 2] if found else ()
    gaps = [each.validation_loss - each.sample_loss for each in first if each.sample_loss is not None]
    margins = [max(0.25 * facts.base_loss, 4 * each.validation_error) for each in first]
    if len(gaps) < 2 or any(abs(gap) < margin for gap, margin in zip(gaps, margins, strict=True)):
        return None
    if gaps[0] * gaps[1] < 0 or first[0].epoch > 3:
        return None
    worse = "worse" if gaps[0] > 0 else "better"
    return Finding(
        rule="validation_far_from_train",
        severity="warning",
        step=first[0].step,
        evidence={
            "train_loss": first[0].sample_loss or 0.0,
            "validation_loss": first[0].validation_loss,
            "standard_error": first[0].validation_error,
        },
        series=readings.points(
            (e.step, e.validation_loss - e.sample_loss) for e in record.evaluations if e.sample_loss
        ),
        cause=f"From the start the network is much {worse} on validation rows than on training rows: they are not of "
        "one kind, or a feature holds the answer in one of them only.",
        fix=_other_split(facts),
    )


def _other_split(facts: Facts) -> str:
    if facts.split == "random":
        return 'split.by = "group"  # with the column that tells whose rows these are, as split.column'
    return 'split.by = "random"  # if they come together then, look for the feature that changed in between'


def _last_step(record: Record) -> int:
    return max([0, *(each.step for each in record.probes), *(each.step for each in record.evaluations)])
