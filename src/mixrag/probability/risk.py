"""Risk of selective answers: exact binomial tests in a fixed sequence, and conformal risk control.

An answer is given where its confidence is at least a threshold λ. The risk of λ is the probability that an
answer that is given is wrong. Of n independent questions let n_λ be answered and k_λ of these be wrong; given
n_λ, k_λ is binomial with the risk as its rate, so that P(Bin(n_λ, α) ≤ k_λ) is a p-value of "the risk exceeds
α".

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021) with fixed-sequence testing (Bauer 1991):
thresholds that do not depend on these questions are tested from strict to lax, each at level δ, up to the first
that fails. A threshold above α is accepted with probability at most δ, since the first one in the order would
have to be.

Thresholds under which so few are answered that no outcome could pass are left out (``last_accepted`` without
``start``). How many are answered is data, so this needs a reason: let j be the first threshold whose risk
exceeds α, and let the risk not fall from there on. Then the answers that each later threshold adds are wrong
with a rate of at least α as well. Where j is tested, the error is at most δ given n_j. Where j is left out, the
first that is tested is some J > j, and given the counts k_J is a sum of independent wrong answers, each of rate
at least α, so that it exceeds Bin(n_J, α) stochastically and P(Bin(n_J, α) ≤ k_J) ≤ δ has probability at most δ.
Both cases together: at most δ. With a ``start`` that other questions chose nothing is left out, and nothing is
assumed but independence ("split fixed-sequence testing").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_WRONG = 1000
"""Wrong answers up to which ``pairs_needed`` looks: a target that needs more is out of reach."""
_HALVINGS = 60


def log_binomial_tail(count: Tensor | int, most: Tensor | int, rate: float) -> Tensor:
    """log P(Bin(count, rate) ≤ most), of the shape of ``count`` and ``most`` together; float64.

    Raises:
        ValueError: ``rate`` outside [0, 1].
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"expected a rate in [0, 1]; found {rate}")
    counts, limits = torch.broadcast_tensors(torch.as_tensor(count), torch.as_tensor(most))
    terms = _log_terms(counts.double()[..., None], int(limits.max().clamp(min=0)), rate)
    within = torch.arange(terms.shape[-1]) <= limits[..., None]
    return terms.masked_fill(~within, -math.inf).logsumexp(-1).clamp(max=0.0)


def most_wrong(answered: int, risk: float, delta: float) -> int:
    """The largest k with P(Bin(answered, risk) ≤ k) ≤ delta; -1 where there is none."""
    terms = _log_terms(torch.tensor([float(answered)], dtype=torch.float64), answered, risk)
    return int((terms.logcumsumexp(-1) <= math.log(delta)).sum()) - 1


def fewest_answered(wrong: int, risk: float, delta: float) -> int:
    """The smallest n with P(Bin(n, risk) ≤ wrong) ≤ delta: so many answers certify the risk with so many wrong."""
    low, high = wrong, wrong + 1  # at n = wrong the tail is 1
    while not _passes(high, wrong, risk, delta):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _passes(middle, wrong, risk, delta) else (middle, high)
    return high


def upper_risk(answered: int, wrong: int, delta: float) -> float:
    """The rate below which the true one lies with probability 1 - delta (Clopper & Pearson 1934, one-sided)."""
    if wrong >= answered:
        return 1.0
    low, high = wrong / answered, 1.0
    for _ in range(_HALVINGS):  # the tail falls as the rate rises
        middle = (low + high) / 2
        low, high = (low, middle) if _passes(answered, wrong, middle, delta) else (middle, high)
    return high


def last_accepted(
    answered: Tensor, wrong: Tensor, risk: float, delta: float, start: Tensor | int | None = None
) -> Tensor:
    """Position of the last threshold that the fixed sequence accepts; -1 where it accepts none.

    Args:
        answered: (..., m) questions answered at each threshold, from strict to lax, so that they do not fall.
        wrong: (..., m) those of them that were answered wrong.
        risk: α.
        delta: δ, the level of every test.
        start: first threshold to test, (...) or one for all, chosen without these questions; None: the first at
            which enough are answered that some outcome can pass (see the module).
    """
    table = torch.tensor([most_wrong(n, risk, delta) for n in range(int(answered.max()) + 1)])
    most = table[answered]
    passes = wrong <= most
    places = torch.arange(answered.shape[-1])
    before = most < 0 if start is None else places < torch.as_tensor(start)[..., None]
    going = (passes | before).long().cumprod(-1).bool()
    return torch.where(going & passes & ~before, places, -1).amax(-1)


def best_start(answered: Tensor, wrong: Tensor, risk: float) -> int:
    """Position of the threshold with the smallest p-value, for ``last_accepted`` on other questions; both (m,)."""
    return int(log_binomial_tail(answered, wrong, risk).argmin())


def most_coverage(wrong_share: float, risk: float) -> float:
    """Share of the questions that even a perfect confidence can answer at this risk: (1 - μ) / (1 - α).

    ``wrong_share`` μ is that of all answers. The right ones are a share 1 - μ of the questions, and at least 1 - α
    of those answered; (μ - α) / (1 - α) are withheld.
    """
    return min(1.0, (1.0 - wrong_share) / (1.0 - risk))


def pairs_needed(coverage: float, wrong_share: float, risk: float, delta: float) -> int | None:
    """Questions at which a threshold with this coverage and this share wrong of the answers is expected to pass.

    None where the share is not below the risk, or too near it (more than ``MOST_WRONG`` wrong answers).
    """
    if coverage <= 0.0 or wrong_share >= risk:
        return None
    answered = 1
    for wrong in range(MOST_WRONG + 1):
        while not _passes(answered, wrong, risk, delta):
            answered += 1
        if wrong_share * answered <= wrong:
            return math.ceil(answered / coverage)
    return None


def conformal_threshold(confidences: Tensor, wrong: Tensor, risk: float) -> float | None:
    """Conformal risk control (Angelopoulos, Bates, Fisch, Lei & Schuster 2022) of E[answered and wrong] ≤ risk.

    The loss 1[answered and wrong] does not rise with the threshold and is at most 1, so the smallest threshold
    with n/(n+1) · mean loss + 1/(n+1) ≤ risk keeps the expected loss of a further exchangeable question within it.

    Args:
        confidences: (n,) in [0, 1].
        wrong: (n,) bool.
        risk: α.

    Returns:
        The threshold; None where too few questions allow any, or none at all would be answered.
    """
    values = torch.cat([torch.tensor([-math.inf], dtype=torch.float64), confidences.double().unique()])
    # Answered are those strictly above a value: the loss is then continuous from the right, as the theorem asks.
    losses = ((confidences.double() > values[:, None]) & wrong).sum(-1)
    allowed = values[(losses + 1) <= risk * (len(confidences) + 1) * (1 + 1e-12)]
    if not len(allowed) or float(allowed[0]) >= 1.0:
        return None
    return max(0.0, math.nextafter(float(allowed[0]), math.inf))


def _passes(answered: int, wrong: int, risk: float, delta: float) -> bool:
    return float(log_binomial_tail(answered, wrong, risk)) <= math.log(delta)


def _log_terms(count: Tensor, most: int, rate: float) -> Tensor:
    """log P(Bin(count, rate) = i) for i = 0..most along the last axis; ``count`` is (..., 1)."""
    i = torch.arange(most + 1, dtype=torch.float64)
    rest = (count - i).clamp(min=0.0)
    ways = torch.lgamma(count + 1) - torch.lgamma(i + 1) - torch.lgamma(rest + 1)
    chances = torch.special.xlogy(i, torch.tensor(rate, dtype=torch.float64)) + torch.special.xlog1py(
        rest, torch.tensor(-rate, dtype=torch.float64)
    )
    terms: Tensor = (ways + chances).masked_fill(i > count, -math.inf)
    return terms
