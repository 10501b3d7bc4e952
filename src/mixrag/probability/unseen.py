"""The part of a sum Z = Σ_j e^{s_j} that was not computed, bounded from below and above.

An approximate search scores some of the passages and leaves the others in their clusters. Of a cluster with n
passages the mean μ of their vectors is known, and the largest distance ρ of one from a centre c. With logits
s_j = z_j·q / T, convexity (Jensen) and the Cauchy–Schwarz inequality give

    n e^{q·μ/T}  ≤  Σ_{j in the cluster} e^{s_j}  ≤  n e^{(q·c + ‖q‖ρ)/T}

for every question, always; no probability is involved.

Under the hybrid prior (``prior.py``) a passage that was not scored has BM25 between 0 and b, the last of the best
that the lexical search gave, so that its score is between the dense part of it and that plus λ b / T'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import log_difference, log_sum

_ROUNDING = 1e-6
"""Relative error of sums of terms from inner products in float32."""


def log_cluster_bounds(counts: Tensor, mean_logits: Tensor, centre_logits: Tensor, radii: Tensor) -> Tensor:
    """(2,) lower and upper bound on log Σ_j e^{s_j} over all passages of C clusters; -inf where there is none.

    Args:
        counts: (C,) passages of each cluster, n.
        mean_logits: (C,) q·μ / T.
        centre_logits: (C,) q·c / T.
        radii: (C,) ‖q‖ρ / T.
    """
    log_counts = counts.double().log()
    bounds = torch.stack([mean_logits.double(), (centre_logits + radii).double()])
    empty = counts == 0  # whose mean is of nothing
    return log_sum((log_counts + bounds).masked_fill(empty, -torch.inf), -1)


def log_hybrid_bounds(dense_bounds: Tensor, log_dense: Tensor, log_scored: Tensor, largest: float) -> Tensor:
    """(2,) lower and upper bound on log Z under the hybrid prior.

    Args:
        dense_bounds: (2,) bounds on log Σ e^{(1-λ) d·q / T} over all M passages.
        log_dense: log of the same sum over the C passages that were scored.
        log_scored: log Σ e^{s_j} over these C.
        largest: λ b / T', the most that BM25 adds to the score of any other passage.
    """
    slack = torch.tensor([-_ROUNDING, _ROUNDING], dtype=torch.float64)
    others = log_difference(dense_bounds.double() + slack, log_dense.double().expand(2))
    most = torch.tensor([0.0, largest], dtype=torch.float64)
    return torch.logaddexp(log_scored.double().expand(2), others + most)
