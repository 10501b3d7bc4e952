"""Pure functions on tensors of log-probabilities. Imports torch only."""

from mixrag.probability.bounds import (
    escape_mass,
    is_certainly_best,
    log_truncation_bracket,
    poisoning_tv,
    pruning_tv,
    truncation_tv,
)
from mixrag.probability.logspace import log_normalise, log_sum, log_sum_others
from mixrag.probability.posterior import (
    effective_number,
    log_evidence_ratio,
    log_leave_one_out,
    log_posterior,
)
from mixrag.probability.switching import (
    expected_draws,
    log_answer_likelihood,
    log_backward,
    log_filter,
    log_forward,
    log_marginal,
    log_mix,
    log_predictive_weights,
    log_smoothing,
    log_transition,
)

__all__ = [
    "effective_number",
    "escape_mass",
    "expected_draws",
    "is_certainly_best",
    "log_answer_likelihood",
    "log_backward",
    "log_evidence_ratio",
    "log_filter",
    "log_forward",
    "log_leave_one_out",
    "log_marginal",
    "log_mix",
    "log_normalise",
    "log_posterior",
    "log_predictive_weights",
    "log_smoothing",
    "log_sum",
    "log_sum_others",
    "log_transition",
    "log_truncation_bracket",
    "poisoning_tv",
    "pruning_tv",
    "truncation_tv",
]
