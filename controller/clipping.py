"""Cuts of thresholds, and the form of the surrogate beyond them; importable without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from .inputs.configuration import Config

if TYPE_CHECKING:
    from torch import Tensor

LOG_RATIO_LIMIT = 60.0
"""Largest |ln ratio| that counts: a ratio of zero or infinity would turn even a cut token's gradient into NaN."""
Scale = Annotated[float, Field(ge=0, le=100)]


class Surrogate(Config):
    """`clip` is PPO's minimum (arXiv 1707.06347, eq. 7): a token beyond its threshold has no gradient.

    `gradient_preserving` is CE-GPPO (arXiv 2509.20712): its gradient is kept, scaled to beta_low (1 - eps_low) for
    A < 0 and beta_high (1 + eps_high) for A > 0; that of a token with a threshold below 0, which an actuator cuts to
    steer entropy, is not. GPPO is both at 1. The paper gives beta_low 0.75, its code 0.25. Left open: the thresholds
    (0.2 on both sides in examples/strategies).
    """

    form: Literal["clip", "gradient_preserving"] = "clip"
    """Treatment of a token beyond its threshold."""
    beta_low: Scale = 0.75
    """`gradient_preserving` only: scale of the gradient kept below the band."""
    beta_high: Scale = 1.0
    """`gradient_preserving` only: scale of the gradient kept above the band."""
    ratio_limit: Annotated[float, Field(gt=1, le=1e6)] | None = None
    """Ratio beyond which a token with A < 0 has no gradient and its loss no longer grows: dual clip (arXiv 1912.09729,
    section 3.2; 3 there); none: no such cap. Without it one token of an absurd ratio can decide the step."""


def importance_ratio(log_ratio: Tensor) -> Tensor:
    """e^log_ratio for log_ratio = ln p - ln p at the rollout, within `LOG_RATIO_LIMIT`; NaN stays NaN."""
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def cut_tokens(ratio: Tensor, a: Tensor, eps_low: Tensor | float, eps_high: Tensor | float) -> tuple[Tensor, Tensor]:
    """Tokens that lose their gradient, by the lower and by the upper threshold; bool, shaped like `ratio`."""
    return outside(ratio, a, 1 - eps_low, 1 + eps_high)


def outside(ratio: Tensor, a: Tensor, low: Tensor | float, high: Tensor | float) -> tuple[Tensor, Tensor]:
    """Tokens that lie beyond the band [low, high] on the side that `a` pushes them to; bool, shaped like `ratio`."""
    return (a < 0) & (ratio < low), (a > 0) & (ratio > high)
