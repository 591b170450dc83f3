"""Reports of runs: figures of merit, a closing table, a picture and a page. This file says what is shown;
`drawing` draws it, the page with Bokeh and the picture with matplotlib, and nothing else imports these two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from entrostat.trainer.reporting.rundata import Run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Colours of runs, told apart by the colour-blind too (Okabe and Ito); black and grey are the target's."""
TERMS = {"p": "#E69F00", "i": "#0072B2", "d": "#CC79A7", "feedforward": "#009E73"}
"""Colours of the parts of a command, from the same palette."""
DASHES = ("", "6 4", "2 3", "9 3 2 3", "2 2 9 2")
"""Lengths of dash and gap: one pattern a column, or, where a plot has one column, one for every six runs."""
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus")
SIGNS = "●■▲◆▼+"
"""The same as characters."""


@dataclass(frozen=True)
class Panel:
    """One plot over steps. `lines` maps a column to its label; a run has its colour, a column its dash."""

    title: str
    axis: str
    lines: dict[str, str]
    log: bool = False


@dataclass(frozen=True)
class Style:
    """How the run at `index` is drawn. The first six differ in colour and marker, the next six in dash and marker."""

    index: int

    @property
    def colour(self) -> str:
        """They come round again after six."""
        return COLOURS[self.index % len(COLOURS)]

    @property
    def dash(self) -> str:
        """Dash of the line; it changes once the colours come round."""
        return DASHES[self.index // len(COLOURS) % len(DASHES)]

    @property
    def marker(self) -> str:
        """A colour that comes round has another marker."""
        return MARKERS[self._shape]

    @property
    def sign(self) -> str:
        """The marker as a character."""
        return SIGNS[self._shape]

    @property
    def _shape(self) -> int:
        return (self.index + self.index // len(COLOURS)) % len(MARKERS)


def colour(index: int) -> str:
    """The colour of the run at `index`."""
    return Style(index).colour


def targets(runs: Sequence[Run]) -> list[tuple[int, str]]:
    """The different targets of `runs`, each as a run that has it and the colour to draw it in: black where
    there is only one, otherwise that run's own. Of runs that share a target the longest counts."""
    chosen: list[int] = []
    for index in sorted(range(len(runs)), key=lambda index: -len(runs[index].steps)):
        others = [runs[other] for other in chosen]
        if runs[index].has("controller/setpoint") and not any(_same_target(runs[index], run) for run in others):
            chosen.append(index)
    return [(index, "black" if len(chosen) == 1 else colour(index)) for index in sorted(chosen)]


def sharing(runs: Sequence[Run], index: int) -> list[int]:
    """The runs that have the target of the run at `index`, itself among them."""
    key = "controller/setpoint"
    return [i for i, run in enumerate(runs) if run.has(key) and _same_target(run, runs[index])]


def _same_target(one: Run, other: Run) -> bool:
    _, here, there = np.intersect1d(one.steps, other.steps, return_indices=True)
    key = "controller/setpoint"
    asked, too = one.column(key)[here], other.column(key)[there]
    both = np.isfinite(asked) & np.isfinite(too)  # control may have been released in one of them
    neither = not np.isfinite(asked).any() and not np.isfinite(too).any()
    return neither or (both.any() and np.allclose(asked[both], too[both], rtol=1e-3))


def _by_region(key: str, expected: str, surprising: str) -> dict[str, str]:
    return {key.format(expected): f"{expected.upper()} expected"} | {
        key.format(surprising): f"{surprising.upper()} surprising"
    }


_GOOD, _BAD = ("e1", "e2"), ("e3", "e4")
_SHARE, _FORCE, _WIDTH = "region/{}/fraction", "region/{}/contribution", "threshold/{}_mean"

PANELS = {
    "entropy": Panel("Entropy and its target", "entropy (nats)", {"actor/entropy": "measured"}),
    "error": Panel("Distance from the target", "entropy - target (nats)", {"error": "error"}),
    "command": Panel("Command", "command, + for more", {"controller/command": "command"}),
    "bonus": Panel("Entropy bonus in the loss", "weight, negative for less", {"controller/bonus": "bonus"}),
    "reward": Panel("Reward", "mean reward", {"reward/mean": "reward"}),
    "eval": Panel(
        "Evaluation",
        "share of prompts solved",
        {
            "eval/pass_at_8": "pass_at_8",
            "eval/pass_at_1": "pass_at_1",
            "eval/greedy": "greedy",
            "eval/greedy_train": "greedy, training prompts",
        },
    ),
    "distinct": Panel("Diversity", "distinct correct answers", {"eval/distinct": "distinct"}),
    "length": Panel("Response length", "tokens", {"response/length_mean": "mean"}),
    "upper": Panel(
        "Upper threshold: room for rewarded tokens (A > 0)",
        "eps_high",
        _by_region(_WIDTH, *_GOOD) | {"threshold/high_mean": "mean"},
    ),
    "lower": Panel(
        "Lower threshold: room for penalised tokens (A < 0)",
        "eps_low",
        _by_region(_WIDTH, *_BAD) | {"threshold/low_mean": "mean"},
    ),
    "share_upper": Panel("Rewarded tokens (A > 0) by region", "share of tokens", _by_region(_SHARE, *_GOOD)),
    "share_lower": Panel("Penalised tokens (A < 0) by region", "share of tokens", _by_region(_SHARE, *_BAD)),
    "force_upper": Panel(
        "Push on entropy by rewarded tokens (A > 0)", "contribution (first order)", _by_region(_FORCE, *_GOOD)
    ),
    "force_lower": Panel(
        "Push on entropy by penalised tokens (A < 0)", "contribution (first order)", _by_region(_FORCE, *_BAD)
    ),
    "clip": Panel(
        "Tokens whose gradient the thresholds cut",
        "share of tokens",
        {
            "clip_ratio/region_mean": "either",
            "clip_ratio/high_mean": "by the upper",
            "clip_ratio/low_mean": "by the lower",
        },
    ),
    "zero": Panel(
        "Where no gradient comes from",
        "share",
        {
            "gradient/zero_fraction": "zero-gradient tokens",
            "gradient/no_advantage_fraction": "tokens with A = 0",
            "group/no_spread_fraction": "prompts, all rewards equal",
        },
    ),
    "gradient": Panel("Gradient norm", "norm, log axis", {"actor/grad_norm": "norm"}, log=True),
    "kl": Panel("KL divergence from the rollout policy", "nats a token", {"actor/ppo_kl": "KL"}),
    "authority": Panel("Authority of the command", "share of the batch's pull", {"controller/authority": "authority"}),
    "time": Panel(
        "Time by phase",
        "seconds a step",
        {
            "time/step": "whole step",
            "time/rollout": "rollout",
            "time/update": "update",
            "time/measure": "measure",
            "time/control": "control",
        },
    ),
}

SECTIONS = {
    "Control": ("error", "command", "bonus", "authority"),
    "Rewards and answers": ("reward", "eval", "distinct", "length"),
    "Thresholds and regions": ("upper", "lower", "share_upper", "share_lower", "force_upper", "force_lower"),
    "Gradients": ("clip", "zero", "gradient", "kl"),
    "Time": ("time",),
}
"""The panels below the entropy, in reading order."""
