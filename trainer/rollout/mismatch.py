"""How far the sampler's probabilities are from the trainer's, and the weights that correct for it.

Two programs compute the same softmax with other kernels, other precision, or, after a failed push, other weights. Each
token's gradient is weighted by min(p_trainer / p_sampler, cap): truncated importance sampling, as TRL
(`vllm_importance_sampling_mode: token_truncate`) and verl (`rollout_is: token`) do it. The metrics carry their names.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from entrostat.clipping import LOG_RATIO_LIMIT
from entrostat.inputs.errors import InputError
from entrostat.measure.ranks import all_reduced

from ..errors import Unsampled
from .batch import Rollout

ROUNDING = 1e-3
"""Nats above 0 that a half-precision softmax may give the only likely token."""
LIMITS = {"float32": 1e-3, "bfloat16": 0.1}
"""Mean |difference of ln p|, nats, beyond which the two cannot be the same policy in this precision."""


def trusted(rollout: Rollout, vocabulary: int) -> tuple[Rollout, int]:
    """The rollout without the responses that have an impossible token or log-probability, and their number.

    A weight cannot correct for an unknown ln p, and a ratio to it would be learned from: NaN, infinite, missing, above
    0, or so low (vLLM's -9999 stands for minus infinity) that the token was never sampled. A token beyond the policy's
    vocabulary has no embedding. Raises InputError: they are more than half of this rank's.

    Args:
        vocabulary: rows of the policy's embedding.
    """
    usable = (rollout.logprob >= -LOG_RATIO_LIMIT) & (rollout.logprob <= ROUNDING)  # NaN is neither
    embedded = (rollout.sequences >= 0) & (rollout.sequences < vocabulary)
    usable &= embedded[:, rollout.prompt_length :]
    good = (usable | ~rollout.mask).all(dim=1)
    lost = int((~good).sum())
    if 2 * lost > len(good):
        raise InputError(
            f"the sampler gives no usable ln p for some token of {lost} in {len(good)} responses (NaN, infinite, "
            f"missing, above 0, below {-LOG_RATIO_LIMIT:g}, or of a token beyond the policy's vocabulary of "
            f"{vocabulary}); look at its log, and update or restart it."
        )
    logprob = torch.where(usable & rollout.mask, rollout.logprob, 0.0)
    sequences = torch.where(embedded, rollout.sequences, 0)
    return replace(rollout, sequences=sequences, mask=rollout.mask & good[:, None], logprob=logprob), lost


def correction(rollout: Rollout, logprob: Tensor, cap: float) -> tuple[Tensor, dict[str, float]]:
    """Truncated importance weights, and the metrics of the mismatch over all ranks.

    Args:
        logprob: [B, T], ln p of the rollout's tokens under the trainer's policy.
        cap: the largest weight.

    Returns:
        Weights [B, T], 1 off the mask, and `sampling/*` (TRL's names), `rollout_corr/*` (verl's).
    """
    mask = rollout.mask & logprob.isfinite()  # without it the measurement is held and the update skipped
    log_ratio = torch.where(mask, logprob.detach() - rollout.logprob, 0.0).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()
    weights = ratio.clamp(max=cap)
    columns = (log_ratio.abs(), -log_ratio, ratio - log_ratio - 1, weights, weights.square(), (ratio > cap).float())
    sums = torch.stack([(column * mask).double().sum() for column in (*columns, mask)])
    extremes = torch.stack([log_ratio.abs().amax(), (-weights).amax(), weights.amax()]).double()
    all_reduced(sums)
    all_reduced(extremes, largest=True)
    difference, kl, k3, mean, square, above = (sums[:-1] / sums[-1].clamp(min=1)).tolist()
    largest, minus_lowest, highest = extremes.tolist()
    return weights, {
        "sampling/sampling_logp_difference/mean": difference,
        "sampling/sampling_logp_difference/max": largest,
        "sampling/importance_sampling_ratio/min": -minus_lowest,
        "sampling/importance_sampling_ratio/mean": mean,
        "sampling/importance_sampling_ratio/max": highest,
        "rollout_corr/kl": kl,
        "rollout_corr/k3_kl": k3,
        "rollout_corr/rollout_is_mean": mean,
        "rollout_corr/rollout_is_eff_sample_size": mean**2 / square if square else 0.0,
        "rollout_corr/rollout_is_ratio_fraction_high": above,
    }


def check_mismatch(metrics: dict[str, float], limit: float) -> None:
    """Refuse a batch that the policy cannot have sampled, before it is learned from.
    Raises Unsampled: the mean difference of ln p, the same on all ranks, is beyond `limit`.
    """
    difference = metrics["sampling/sampling_logp_difference/mean"]
    if not difference <= limit:
        raise Unsampled(
            f"the sampler's ln p and the trainer's differ by {difference:.3g} nats in the mean, more than "
            f"`rollout.mismatch_limit`, {limit:g}, so its weights are stale or it leaves out the temperature; give "
            "every run an engine of its own, a server started with --logprobs-mode processed_logprobs."
        )
