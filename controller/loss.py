"""The clipped surrogate with a threshold for every token: a pure function from tensors to (loss, metrics)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .actuators.base import Minibatch
from .clipping import Surrogate, importance_ratio, outside
from .decision import Decision
from .inputs.errors import InputError, shorten
from .inputs.scalars import real
from .measure.batch import LOST
from .measure.regions import region_of
from .measure.tensors import aligned, as_floats, as_tensor, can_look
from .measure.tokens import TokenStatistics

SMALLEST = 1e-30
MEANS = (
    "actor/ppo_kl",
    "clip_ratio/low_mean",
    "clip_ratio/high_mean",
    "clip_ratio/region_mean",
    "gradient/zero_fraction",
    "gradient/nonfinite_fraction",
)


def policy_loss(
    logprob: Tensor,
    tokens: TokenStatistics,
    advantages: Tensor,
    mask: Tensor,
    decision: Decision,
    *,
    normaliser: Tensor | float | None = None,
    now: TokenStatistics | None = None,
    thresholds: Sequence[Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Token-mean surrogate under the thresholds of `decision`.

        loss = (1 / normaliser) sum over the mask of q - w A r             inside the band
                                                     q - w A (1 +- eps)    beyond it (see `Surrogate`)

    with r = exp(logprob - tokens.logprob), and w and q the token's weight and penalty: 1 and 0 but for actuators that
    set them. A token is cut where A > 0 and r > 1 + eps_high, or A < 0 and r < 1 - eps_low; a negative threshold cuts
    at r = 1. Thresholds and weights are detached. A token whose ratio or advantage is not finite is left out, and
    counted; above `LOST` of the tokens the loss is NaN, so that a loop skips the update.

    Args:
        logprob: [batch, time], ln p under the current policy, with gradient.
        tokens: the rollout's statistics, sliced like the others.
        advantages: [batch] or [batch, time]; no gradient goes back through them.
        mask: [batch, time], true on response tokens.
        now: the minibatch's statistics under the current policy, entropy with gradient: for a decision with
            `reads_entropy`.
        thresholds: eps_low and eps_high, [batch, time], of a loop that has taken `decision.thresholds` of the whole
            rollout already; they are the same in every minibatch unless the decision `reads_logprob` or is refined.
        normaliser: what the sum is divided by; the mask's own count if none. Where the gradients of several losses
            add up, as those of accumulated microbatches do, give the token count of the whole minibatch (DAPO's token
            mean, arXiv 2503.14476). Data parallelism averages gradients over the ranks (PyTorch's DDP and FSDP,
            DeepSpeed): give the count over all ranks divided by their number. A framework that divides by the
            microbatches too wants the count divided by their number as well.

    Returns:
        The loss, and detached scalars. All but the loss are means over the mask, so that minibatches and ranks
        add up when weighted with their token counts: `actor/pg_loss`, `actor/ppo_kl`,
        `clip_ratio/{low,high,region}_mean` (cut by the lower, the upper threshold; by either or by a weight of 0),
        `gradient/zero_fraction`, `gradient/nonfinite_fraction`.

    Raises:
        InputError: shapes or kinds do not match, the normaliser is not positive, an actuator needs `now`, or a bonus
            acts through its entropy and that carries no gradient.
    """
    a, response = aligned(tokens, advantages, mask)
    logprob, total = _checked(logprob, tokens, decision, now, thresholds), _divisor(normaliser, response)
    _check_bonus(decision, logprob, now)
    found = token_surrogate(logprob, tokens, a, response, decision, now, thresholds)
    penalty = decision.penalty(found.batch)
    surrogate = -found.value.sum() / total
    loss = surrogate if penalty is None else surrogate + torch.where(found.live, penalty, 0.0).sum() / total
    loss = torch.where(found.lost(response), torch.nan, loss)
    shares = (found.low, found.high, found.cut, found.cut | (found.batch.advantages == 0), ~found.live)
    means = _means(found.log_ratio.detach(), shares, response, response.sum().clamp(min=1))
    return loss, {"actor/pg_loss": surrogate.detach()} | means


@dataclass(frozen=True)
class TokenSurrogate:
    """Summands of `policy_loss`, and what became of each token; all [batch, time]."""

    value: Tensor
    """w A r inside the band, w A (1 +- eps) beyond it, with its gradient; 0 where a token is left out."""
    log_ratio: Tensor
    low: Tensor
    """Cut by the lower threshold; bool, as the next two."""
    high: Tensor
    """By the upper one."""
    cut: Tensor
    """By either, by the cap on the ratio or by a weight of 0."""
    batch: Minibatch
    """The minibatch as the actuator sees it: tokens that are left out are beyond its mask."""

    @property
    def live(self) -> Tensor:
        """Response tokens whose ratio and advantage are finite; bool."""
        return self.batch.mask

    def lost(self, response: Tensor) -> Tensor:
        """Whether more than `LOST` of the response tokens are left out, so that the update is to be skipped; bool."""
        return (response & ~self.live).sum() > LOST * response.sum()


def token_surrogate(
    logprob: Tensor,
    tokens: TokenStatistics,
    a: Tensor,
    response: Tensor,
    decision: Decision,
    now: TokenStatistics | None = None,
    thresholds: Sequence[Tensor] | None = None,
) -> TokenSurrogate:
    """The surrogate of each token under the thresholds of `decision`; arguments as for `policy_loss`.

    Args:
        a: advantages, [batch, time].
        response: [batch, time], true on response tokens.
    """
    log_ratio = logprob - tokens.logprob.detach()
    live = response & (log_ratio.detach() + a).isfinite()
    # with its gradient a critic's advantage would be trained by the policy's loss
    a, log_ratio = torch.where(live, a.detach(), 0.0), torch.where(live, log_ratio, 0.0)
    ratio = importance_ratio(log_ratio)
    eps_low, eps_high = decision.thresholds(tokens, a, logprob) if thresholds is None else thresholds
    low, high, good = 1 - eps_low, 1 + eps_high, a > 0
    cut_low, cut_high = outside(ratio, a, low, high)
    cut, batch = cut_low | cut_high, Minibatch(logprob, tokens, a, live, now)
    value = a * torch.where(cut, _beyond(decision.surrogate, ratio, torch.where(good, high, low), good), ratio)
    if (limit := decision.surrogate.ratio_limit) is not None:
        far = (a < 0) & (ratio > limit)
        value, cut = torch.where(far, a * limit, value), cut | far
    weights = decision.weights(batch)
    if weights is not None:
        value, cut = weights * value, cut | (weights == 0)
    return TokenSurrogate(torch.where(live, value, 0.0), log_ratio, cut_low, cut_high, cut, batch)


def _checked(
    logprob: Tensor,
    tokens: TokenStatistics,
    decision: Decision,
    now: TokenStatistics | None,
    thresholds: Sequence[Tensor] | None,
) -> Tensor:
    if not isinstance(decision, Decision):
        raise InputError(f"decision is a {type(decision).__name__}; give what step() or refine() returned.")
    if now is not None and not isinstance(now, TokenStatistics):
        raise InputError(f"now is a {type(now).__name__}; give what token_statistics() returned.")
    given: dict[str, Any] = {"logprob": logprob} | ({} if now is None else {"now": now.logprob})
    if thresholds is not None:
        try:
            given["eps_low"], given["eps_high"] = thresholds
        except (TypeError, ValueError):
            raise InputError(
                f"thresholds is {shorten(thresholds)}; give what decision.thresholds() returned."
            ) from None
    for name, tensor in given.items():
        if not isinstance(tensor, Tensor):
            source = "decision.thresholds()" if name.startswith("eps") else "token_statistics()"
            raise InputError(f"{name} is a {type(tensor).__name__}; give what {source} returned.")
        if as_floats(tensor, name).shape != tokens.logprob.shape:
            raise InputError(
                f"{name} is {list(tensor.shape)} and the rollout's tokens {list(tokens.logprob.shape)}; "
                "slice all alike."
            )
    return logprob


def _check_bonus(decision: Decision, logprob: Tensor, now: TokenStatistics | None) -> None:
    """Whether the entropy bonus of `decision` can act where ln p is trained. Raises InputError: it cannot."""
    if now is not None and decision.actuation.bonus and logprob.requires_grad and not now.entropy.requires_grad:
        raise InputError(
            f"the decision has an entropy bonus, {decision.actuation.bonus:.3g}, and the entropy in `now` carries no "
            "gradient, so that it would do nothing; give statistics of token_statistics(..., entropy_gradient=True), "
            "or write `actuator: {type: sensitivity}`, clip thresholds."
        )


def _divisor(normaliser: Tensor | float | None, live: Tensor) -> Tensor | float:
    """Divisor of the sum; never 0, as the sum over no tokens is 0 too."""
    if normaliser is None:
        return live.sum().clamp(min=1)
    if isinstance(normaliser, Tensor):
        if normaliser.numel() != 1:
            raise InputError(f"normaliser is {list(normaliser.shape)}; give one number for the minibatch.")
        normaliser = as_tensor(normaliser, "normaliser")
        if normaliser.is_complex() or normaliser.dtype == torch.bool:
            raise InputError(f"normaliser is {shorten(normaliser)}; give the minibatch's count of tokens.")
        if can_look(normaliser) and not normaliser >= 0:  # 0 is the count of a minibatch without tokens
            raise InputError(f"normaliser is {normaliser.item():g}; give the minibatch's count of tokens.")
        return normaliser.reshape(()).to(live.device).clamp(min=1 if not normaliser.is_floating_point() else SMALLEST)
    if not (number := real(normaliser, "normaliser")) > 0:
        raise InputError(f"normaliser is {number:g}; give the minibatch's count of tokens.")
    return number


def threshold_sums(
    thresholds: Sequence[Tensor], tokens: TokenStatistics, advantages: Tensor, mask: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Sum and count behind each `threshold/*_mean`: half-widths by advantage sign and by region.

    `low` and `e3`, `e4` are lower thresholds (A < 0), `high` and `e1`, `e2` upper ones (A > 0).
    """
    a, live = aligned(tokens, advantages, mask)
    eps_low, eps_high = thresholds
    eps = torch.where(a > 0, eps_high, eps_low)
    region = region_of(a, tokens.logprob, tokens.entropy)
    live = live & (a != 0)
    where = torch.stack([a < 0, a > 0, *(region == index for index in range(4))]) & live
    totals, counts = (eps * where).sum((1, 2)), where.sum((1, 2))
    names = ("low", "high", "e1", "e2", "e3", "e4")
    return {f"threshold/{k}_mean": (total, count) for k, total, count in zip(names, totals, counts, strict=True)}


def _beyond(surrogate: Surrogate, ratio: Tensor, bound: Tensor, good: Tensor) -> Tensor:
    """Value of a cut token; one that an actuator chose, with a threshold below 0, keeps no gradient in either form."""
    if surrogate.form == "clip":
        return bound
    beta = torch.where(good, surrogate.beta_high, surrogate.beta_low)
    chosen = torch.where(good, bound < 1, bound > 1)
    return torch.where(chosen, bound, beta * bound * ratio / ratio.detach())


def _means(log_ratio: Tensor, which: tuple[Tensor, ...], live: Tensor, count: Tensor) -> dict[str, Tensor]:
    """Means over the mask of -log_ratio, which is zero beyond it, and of booleans: together, as calls are the cost."""
    shares = (torch.stack(which) & live).sum((1, 2))
    sums = torch.cat([-log_ratio.sum().reshape(1), shares])
    return dict(zip(MEANS, (sums / count).unbind(), strict=True))
