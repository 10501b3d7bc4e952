"""The part of a sum Z = Σ_j e^{s_j} that was not computed, bounded from below and above.

An approximate search scores some of the passages and leaves the others in their clusters. Of a cluster with n
passages the mean μ of their vectors is known, and the largest distance ρ of one from a centre c. With logits
s_j = z_j·q / T, convexity (Jensen) and the Cauchy–Schwarz inequality give

    n e^{q·μ/T}  ≤  Σ_{j in the cluster} e^{s_j}  ≤  n e^{(q·c + ‖q‖ρ)/T}

for every question, always; no probability is involved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import log_sum


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
