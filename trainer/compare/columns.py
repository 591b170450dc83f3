"""The columns of the comparison: fields of `RunSummary`, and which way each of them is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..reporting.summary import BAND, SKIP

Better = Literal["low", "high", "near zero"]


@dataclass(frozen=True)
class Column:
    """One figure of the table."""

    field: str
    head: str
    form: str
    better: Better | None
    """None where more or less is neither good nor bad."""
    meaning: str

    def rank(self, value: float) -> float:
        """Smaller is better."""
        return {"low": value, "high": -value, "near zero": abs(value), None: 0.0}[self.better]


COLUMNS = (
    Column("rmse", "RMSE %", ".2f", "low", f"Root mean square error, % of the target's mean, from step {SKIP} on."),
    Column("net_rmse", "net %", ".2f", "low", "RMSE without the sampling error of the measured entropy."),
    Column("bias", "bias %", "+.2f", "near zero", f"Mean error, % of the target's mean, from step {SKIP} on."),
    Column(
        "settling",
        "settled",
        ".0f",
        "low",
        f"First step from which entropy stays within {100 * BAND:.0f} % of the target, plus 2 standard errors.",
    ),
    Column("overshoot", "over %", ".1f", "low", "Largest excursion past the target, % of the target's mean."),
    Column(
        "ripple",
        "ripple %",
        ".1f",
        "low",
        "Peak to peak of the late error, % of the target; 5th to 95th centile.",
    ),
    Column("saturated", "sat. %", ".0f", "low", "Steps at which the command asked for was beyond its limit, %."),
    Column("kl", "KL", ".3f", None, "KL divergence of the last policy to the start policy, nats a token."),
    Column("reward", "reward", ".3f", "high", "Training reward at temperature 1, mean of the last 10 steps."),
    Column("greedy", "greedy", ".3f", "high", "Held-out share of right greedy answers: the reward at equal entropy."),
    Column("pass_at_1", "pass_at_1", ".3f", "high", "Held-out share of single answers that are right."),
    Column("pass_at_8", "pass_at_8", ".3f", "high", "Held-out share of prompts with a right answer in 8."),
    Column("distinct", "distinct", ".2f", "high", "Held-out distinct right answers of a prompt."),
    Column("gradient_norm", "grad", ".3f", None, "Gradient norm before clipping, mean of the last 10 steps."),
    Column("zero_gradient", "zero %", ".1f", "low", "Tokens without a gradient: cut, or of a group without spread."),
    Column("seconds", "s/step", ".2f", None, "Seconds a step, median: of a machine that was busy with other runs too."),
)
