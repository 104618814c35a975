"""What is wrong with a training run, and what to change: rules over what was recorded.

A finding is a function of the record alone, so that a resumed run is told what an unkilled one is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from contract.evidence import Finding
from training.diagnosis.rules_data import bad_output_bias, imbalance_ignored, input_bound, unnormalised_inputs
from training.diagnosis.rules_layers import (
    dead_relu,
    exploding_from_the_start,
    exploding_gradients,
    same_output,
    saturated_activation,
    vanishing_gradients,
)
from training.diagnosis.rules_loss import (
    learning_rate_too_high,
    learning_rate_too_low,
    loss_not_falling,
    overfitting,
    underfitting,
    validation_far_from_train,
)
from training.diagnosis.signals import Facts, Record


@dataclass(frozen=True)
class Rule:
    """`judge` finds one thing wrong, or nothing. It is not asked where a rule in `unless` has found something: that is
    the cause then, and this only its symptom."""

    judge: Callable[[Record, Facts], Finding | None]
    unless: frozenset[str] = frozenset()


_INPUTS = frozenset({"unnormalised_inputs"})
_START = _INPUTS | {"bad_output_bias"}
_SPEED = _START | {"exploding_gradients", "learning_rate_too_high"}
_LAYERS = _SPEED | {"dead_relu", "saturated_activation", "vanishing_gradients"}
_LEARNING = _LAYERS | {"learning_rate_too_low"}

# In this order: a rule stands behind all that are in its `unless`.
RULES = (
    Rule(unnormalised_inputs),
    Rule(bad_output_bias, unless=_INPUTS),
    Rule(exploding_from_the_start, unless=_START),
    Rule(learning_rate_too_high, unless=_INPUTS | {"exploding_gradients"}),
    Rule(dead_relu, unless=_INPUTS | {"learning_rate_too_high"}),
    Rule(saturated_activation, unless=_SPEED),
    Rule(vanishing_gradients, unless=_SPEED | {"dead_relu", "saturated_activation"}),
    Rule(exploding_gradients, unless=_SPEED),
    Rule(learning_rate_too_low, unless=_LAYERS),
    Rule(same_output, unless=_LEARNING),
    Rule(loss_not_falling, unless=_LEARNING | {"same_output"}),
    Rule(underfitting, unless=_LEARNING | {"same_output", "loss_not_falling"}),
    Rule(validation_far_from_train, unless=_SPEED),
    Rule(overfitting, unless=_SPEED | {"validation_far_from_train"}),
    Rule(imbalance_ignored, unless=_LEARNING | {"same_output", "loss_not_falling", "underfitting"}),
    Rule(input_bound),
)


def examine(record: Record) -> tuple[Finding, ...]:
    """What is wrong with this run as it stands: causes before symptoms, errors and warnings as they come."""
    if record.facts is None:
        return ()
    found: dict[str, Finding] = {}
    for rule in RULES:
        if not rule.unless & found.keys() and (finding := rule.judge(record, record.facts)) is not None:
            found[finding.rule] = finding
    return tuple(found.values())


class Doctor:
    """Examines a run while it trains, and says each thing once.

    Made from the record that a run resumes with, it has already said what the killed process had said: what it knows
    is what `examine` found at each of the evaluations before.
    """

    def __init__(self, record: Record | None = None) -> None:
        self._said: set[str] = set()
        for i in range(len(record.evaluations) if record else 0):
            self.news(until(record, i))  # type: ignore[arg-type]  # there is a record where it has evaluations

    def news(self, record: Record) -> tuple[Finding, ...]:
        """What is wrong and has not been said yet; to be asked after every evaluation."""
        new = tuple(finding for finding in examine(record) if finding.rule not in self._said)
        self._said |= {finding.rule for finding in new}
        return new


def until(record: Record, i: int) -> Record:
    """The record as it was right after evaluation `i`."""
    step = record.evaluations[i].step
    return record.model_copy(
        update={
            "losses": tuple(point for point in record.losses if point[0] <= step),
            "probes": tuple(probe for probe in record.probes if probe.step <= step),
            "evaluations": record.evaluations[: i + 1],
            "rollbacks": tuple(each for each in record.rollbacks if each <= step),
            "stopped": "running",
        }
    )


# Karpathy, A Recipe for Training Neural Networks, "overfit one batch": the loss must go to (nearly) zero.
NEARLY_ZERO = 0.01


def overfit_verdict(final_loss: float, base_loss: float, record: Record) -> Finding | None:
    """Why a run on one batch could not learn it by heart: the first cause that the rules find, or that none is known.

    None where it did: `final_loss` is below a hundredth of `base_loss`, that of always giving the class shares.
    """
    if final_loss < NEARLY_ZERO * base_loss:
        return None
    causes = [finding for finding in examine(record) if finding.rule in _LEARNING]
    evidence = {"final_loss": final_loss, "loss_of_constant_answer": base_loss}
    if causes:
        return causes[0].model_copy(update={"severity": "error", "evidence": causes[0].evidence | evidence})
    return Finding(
        rule="cannot_overfit",
        severity="error",
        step=record.evaluations[-1].step if record.evaluations else 0,
        evidence=evidence,
        series=tuple((float(step), loss) for step, loss in record.losses),
        cause="The network cannot even learn one batch by heart: it is too small, or equal rows have different labels.",
        fix="training.epochs = 1000  # if the loss still fell; else look for equal rows with different labels",
    )
