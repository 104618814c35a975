"""What may be said while looking again and again: bounds that hold at every look at once.

An interval of a fixed sample would be looked at every second until it happens to be wrong. These are confidence
sequences: the probability that a bound is ever wrong, over all looks, is `alpha`.

- A share: the mixture over a beta distribution of likelihood ratios is a nonnegative martingale, which passes 1/alpha
  with probability alpha at most (Ville 1939; Robbins, Statistical Methods Related to the Law of the Iterated Logarithm,
  1970). It holds for any mean of values from 0 to 1, not of ones and zeros alone (Howard, Ramdas, McAuliffe and Sekhon,
  Time-uniform Chernoff bounds via nonnegative supermartingales, 2020, section 4.2).
- A difference of means: the normal mixture of one side (Howard, Ramdas, McAuliffe and Sekhon, Time-uniform,
  nonparametric, nonasymptotic confidence sequences, 2021, equation 3.7), with the variance as estimated (Waudby-Smith,
  Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic confidence sequences, 2024).
- A PSI: the quantile of contract/drift.py, so far out that all looks of a canary together seldom reach it.
"""

import math
from collections.abc import Callable

from contract.drift import CRITICAL_Z, chi_square

# The mixture is tightest once there are so many observations of the canary.
TIGHTEST = 500
# Jeffreys' prior: errors are rare.
PRIOR = 0.5
_HALVINGS = 50


def share_bounds(sum_of_values: float, count: float, alpha: float) -> tuple[float, float]:
    """The lower and the upper bound of a mean of `count` values from 0 to 1; each is ever wrong with `alpha` / 2."""
    if not count:
        return 0.0, 1.0
    rest = count - sum_of_values
    share, mixed = sum_of_values / count, _log_beta(PRIOR + sum_of_values, PRIOR + rest) - _log_beta(PRIOR, PRIOR)

    def possible(mean: float) -> bool:
        """Whether the mixture of likelihoods is not so much larger than that of this mean."""
        return mixed - _log_likelihood(sum_of_values, rest, mean) < math.log(2 / alpha)

    return _edge(0.0, share, possible), _edge(1.0, share, possible)


def quantile(count: float, alpha: float) -> float:
    """Standard errors by which a mean of `count` values exceeds the truth, at any look, with probability `alpha`."""
    odds = math.log(1 / (2 * alpha))
    rho = TIGHTEST / (2 * odds + math.log(1 + 2 * odds))
    return math.sqrt(2 * (1 + rho / count) * math.log(math.sqrt(1 + count / rho) / (2 * alpha) + 1))


def psi_beyond(margin: float, bins: int, rows: int, others: float) -> float:
    """The PSI of two samples that chance alone does not reach where the truth is at most `margin`.

    A PSI over (1/n + 1/m) is then about a noncentral chi-square, which is a multiple of a chi-square of fractional
    freedom (Patnaik, The Non-central Chi-square and F-distributions, 1949); without a margin it is contract.drift's.
    """
    if not rows or not others or bins < 2:
        return math.inf
    scale = 1 / rows + 1 / others
    freedom, shift = bins - 1, margin / scale
    stretch = (freedom + 2 * shift) / (freedom + shift)
    return scale * stretch * chi_square((freedom + shift) / stretch, CRITICAL_Z)


def _log_likelihood(ones: float, zeros: float, mean: float) -> float:
    if (mean <= 0 and ones > 0) or (mean >= 1 and zeros > 0):
        return -math.inf
    return (ones * math.log(mean) if ones else 0.0) + (zeros * math.log1p(-mean) if zeros else 0.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _edge(outside: float, inside: float, possible: Callable[[float], bool]) -> float:
    """Where what is possible ends, between the two."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if possible(middle) else (middle, inside)
    return outside
