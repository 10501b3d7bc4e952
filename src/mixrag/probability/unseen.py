"""The part of a sum Z = Σ_j e^{s_j} that was not looked at, bounded from below and above.

An approximate search scores some of the passages and leaves the others in their cells. Of a cell with n passages
it knows the mean μ of their vectors and the largest distance ρ of one of them from a centre c. With logits
s_j = z_j·q / T, convexity (Jensen) and the Cauchy–Schwarz inequality give

    n e^{q·μ/T}  ≤  Σ_{j in the cell} e^{s_j}  ≤  n e^{(q·c + ‖q‖ρ)/T}

for every question, always; no probability is involved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixrag.probability.logspace import log_sum


def log_cell_bounds(counts: Tensor, mean_logits: Tensor, centre_logits: Tensor, reach: Tensor) -> Tensor:
    """(2,) lower and upper bound on log Σ_j e^{s_j} over all passages of C cells; -inf where there is none.

    Args:
        counts: (C,) passages of each cell, n.
        mean_logits: (C,) q·μ / T.
        centre_logits: (C,) q·c / T.
        reach: (C,) ‖q‖ρ / T.
    """
    log_counts = counts.double().log()
    bounds = torch.stack([mean_logits.double(), (centre_logits + reach).double()])
    empty = counts == 0  # whose mean is of nothing
    return log_sum((log_counts + bounds).masked_fill(empty, -torch.inf), -1)


def mass_outside(log_kept: Tensor | float, log_total: Tensor | float, log_null: float = -torch.inf) -> Tensor:
    """Prior mass of what is not kept, 1 - (e^{log_kept} + e^{log_null}) / (e^{log_total} + e^{log_null}).

    ``log_kept`` is log Σ e^{s_j} over the passages kept, ``log_total`` over all, ``log_null`` the null component's
    score. It rises with ``log_total``, so that bounds on the one are bounds on the other.
    """
    kept, total = (torch.as_tensor(each, dtype=torch.float64) for each in (log_kept, log_total))
    left = -torch.expm1((kept - total).clamp(max=0.0))
    return left * torch.exp(-torch.logaddexp(torch.zeros_like(total), log_null - total))
