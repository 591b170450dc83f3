"""Which form the surrogate takes outside the ratio band."""

from typing import Annotated, Literal

from pydantic import Field

from .configuration import Config

Scale = Annotated[float, Field(ge=0, le=100)]


class Surrogate(Config):
    """`clip` is PPO's minimum (arXiv 1707.06347, eq. 7): a token beyond its threshold has no gradient.

    `gradient_preserving` is CE-GPPO (arXiv 2509.20712): its gradient is kept, scaled to beta_low (1 - eps_low) for
    A < 0 and beta_high (1 + eps_high) for A > 0. GPPO is both at 1. The paper gives beta_low 0.75, its code 0.25. Left
    open: the thresholds (0.2 on both sides in examples/strategies).
    """

    form: Literal["clip", "gradient_preserving"] = "clip"
    """What becomes of a token beyond its threshold."""
    beta_low: Scale = 0.75
    """`gradient_preserving` only: scale of the gradient kept below the band."""
    beta_high: Scale = 1.0
    """`gradient_preserving` only: scale of the gradient kept above the band."""
    ratio_limit: Annotated[float, Field(gt=1, le=1e6)] | None = None
    """Ratio beyond which a token with A < 0 has no gradient and its loss no longer grows: dual clip (arXiv 1912.09729,
    section 3.2; 3 there); none: no such cap. Without it one token of an absurd ratio can decide the step."""
