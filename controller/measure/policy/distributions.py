"""Log-probability, entropy and entropy sensitivity of an action, from any policy's `torch.distributions` object.

The sensitivity is that of the distribution's own parameters theta:

    S = -<grad_theta ln p(a), grad_theta H>

| distribution | theta | S |
|---|---|---|
| categorical | logits | p (ln p + H) - sum_x pi(x)^2 (ln pi(x) + H), as `token_statistics` has it |
| Bernoulli | logit l | (a - p) l p (1 - p): half that of a categorical over its two values |
| diagonal Gaussian | mean, ln std | sum over coordinates of 1 - z^2, z = (a - mean) / std |

Factors of an action have parameters apart, so all three columns add. For a Gaussian S = 2 (ln p + H): surprisal
against entropy, the rule of arXiv 2602.09782, section 3, is exact there. Where the standard deviation does not depend
on the state its logarithm is one parameter of all states, and S is still with respect to that of this action alone:
the signs and the ratios of what actions contribute to the entropy's change are the same, and all states share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, TransformedDistribution
from torch.nn.functional import softplus

from ...inputs.errors import InputError
from ..tensors import as_tensor
from ..tokens import TokenStatistics, token_statistics

Policy = Distribution | Sequence[Distribution]


@dataclass(frozen=True)
class _Factor:
    """One kind's columns, [batch, time] or with coordinates behind, and the number of values of an action or none."""

    logprob: Tensor
    entropy: Tensor
    sensitivity: Tensor
    values: int | None

    def summed(self, coordinates: int) -> _Factor:
        """The last `coordinates` dimensions added up."""
        if coordinates == 0:
            return self
        several = math.prod(self.logprob.shape[-coordinates:])
        logprob, entropy, s = (x.flatten(-coordinates).sum(-1) for x in (self.logprob, self.entropy, self.sensitivity))
        return _Factor(logprob, entropy, s, None if self.values is None else self.values**several)


def distribution_statistics(
    distribution: Policy, actions: Tensor, *, entropy_gradient: bool = False
) -> TokenStatistics:
    """Exact statistics of the sampled actions; shapes are the distribution's own.

    Entropies of continuous actions are differential, in nats an action: of either sign, and larger by ln c a coordinate
    where its unit is made c times smaller. They are those of the Gaussian, whatever the environment or a wrapper does
    to an action afterwards: where it is clipped to bounds, or squashed by a tanh, name it as that.
    Raises InputError: another distribution, one whose entropy has no closed form, or shapes that do not match.

    Args:
        distribution: a Categorical, Bernoulli or Normal of batch shape [batch, time], or [batch] for one action a row,
            which counts as [batch, 1]; `Independent` of one of them, whose coordinates are factors of an action; or a
            sequence of such, of one coordinate each: the factors of an action.
        actions: [batch, time] or [batch], with the coordinates of an action behind.
        entropy_gradient: whether `entropy` carries a gradient too, for entropy bonuses.
    """
    actions = as_tensor(actions, "actions")
    found = _several(distribution, actions) if isinstance(distribution, Sequence) else _one(distribution, actions)
    shape = found.logprob.shape
    if len(shape) not in (1, 2):
        raise InputError(
            f"the distribution has actions of shape {list(shape)}; give [batch, time] or [batch], with the coordinates "
            "of an action in `torch.distributions.Independent`."
        )
    columns = found.logprob, found.entropy if entropy_gradient else found.entropy.detach(), found.sensitivity.detach()
    logprob, entropy, s = (x.float() if len(shape) == 2 else x.float()[:, None] for x in columns)
    return TokenStatistics(logprob, entropy, s, found.values)


def _several(factors: Sequence[Distribution], actions: Tensor) -> _Factor:
    if actions.shape[-1:] != (len(factors),):
        raise InputError(
            f"actions are {list(actions.shape)} for {len(factors)} factors; give one coordinate a factor, in the last "
            "dimension."
        )
    found = [_one(factor, action) for factor, action in zip(factors, actions.unbind(-1), strict=True)]
    values = [factor.values for factor in found]
    return _Factor(
        torch.stack([factor.logprob for factor in found]).sum(0),
        torch.stack([factor.entropy for factor in found]).sum(0),
        torch.stack([factor.sensitivity for factor in found]).sum(0),
        None if None in values else math.prod(x for x in values if x is not None),
    )


def _one(distribution: Distribution, actions: Tensor) -> _Factor:
    if isinstance(distribution, Independent):
        return _one(distribution.base_dist, actions).summed(distribution.reinterpreted_batch_ndims)
    known = {Categorical: _categorical, Bernoulli: _bernoulli, Normal: _normal}
    for kind, statistics in known.items():
        if isinstance(distribution, kind):
            if distribution.batch_shape != actions.shape:
                raise InputError(
                    f"the {kind.__name__} has batch shape {list(distribution.batch_shape)} and actions are "
                    f"{list(actions.shape)}; give the same shape for both."
                )
            return statistics(distribution, actions)  # type: ignore[operator, no-any-return]
    name = type(distribution).__name__
    if isinstance(distribution, TransformedDistribution):
        raise InputError(
            f"{name} transforms its actions, as a tanh does, and then the entropy has no closed form; give the "
            "Gaussian before the transform and its actions, and name the entropy as that."
        )
    raise InputError(
        f"{name} has no sensitivity in closed form here; give a Categorical, Bernoulli or Normal, or an `Independent` "
        "of one."
    )


def _categorical(distribution: Categorical, actions: Tensor) -> _Factor:
    logits = distribution.logits
    vocab = logits.shape[-1]
    tokens = token_statistics(logits.reshape(-1, vocab), actions.long().reshape(-1), entropy_gradient=True)
    logprob, entropy, s = (x.view(actions.shape) for x in (tokens.logprob, tokens.entropy, tokens.sensitivity))
    return _Factor(logprob, entropy, s, vocab)


def _bernoulli(distribution: Bernoulli, actions: Tensor) -> _Factor:
    """ln p(a) = a l - softplus(l), H = softplus(l) - p l, dH/dl = -l p (1 - p)."""
    logit, p = distribution.logits.float(), distribution.probs.float()
    logprob, entropy = actions * logit - softplus(logit), softplus(logit) - p * logit
    return _Factor(logprob, entropy, (actions - p) * logit * p * (1 - p), 2)


def _normal(distribution: Normal, actions: Tensor) -> _Factor:
    """dln p/dln std = z^2 - 1 and dH/dln std = 1; the mean moves no entropy."""
    z, log_std = (actions - distribution.loc) / distribution.scale, distribution.scale.log()
    half = 0.5 * math.log(2 * math.pi)
    return _Factor(-0.5 * z**2 - log_std - half, (0.5 + half + log_std).expand_as(z), 1 - z**2, None)
