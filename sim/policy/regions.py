"""Which tokens move entropy: training with the gradient of some regions at a time (arXiv 2602.09782, section 3).

E1 alone and E4 alone lower entropy, E2 alone and E3 alone raise it, to first order; see `entrostat.measure.regions`.
Beside it, in the same setting, the thresholds that the same paper builds on this: how many tokens do they touch?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from entrostat.inputs.configuration import parse
from entrostat.loop.config import ControlConfig
from entrostat.measure.batch import REGIONS

from ..plants import Floats
from .loop import simulate_policies
from .plant import CALIBRATED, PolicyPlant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGNS = {"e1": -1, "e2": 1, "e3": 1, "e4": -1}
"""The published sign of the entropy's change when one region alone has a gradient."""
PAIRS = tuple("+".join(pair) for pair in combinations(REGIONS, 2))
PARTS = (*REGIONS, *PAIRS, "all")
COLOURS = {"e1": "#0072b2", "e2": "#e69f00", "e3": "#d55e00", "e4": "#56b4e9", "all": "black"}
"""Blues lower entropy, oranges raise it."""
LABEL = 9
"""Height of a curve's name, points."""
PAIR_COLOURS = {-1: "#0072b2", 0: "0.6", 1: "#d55e00"}
"""Direction by the published sign of a pair."""
SIGN_HEADS = "gradient from | published | at the start [nats] | at the end, over the seeds | as published"
THRESHOLDS: dict[str, dict[str, Any]] = {
    "static": {"law": {"type": "manual"}, "actuator": {"type": "static"}},
    "Hup": {"law": {"type": "manual", "command": 1.0}, "actuator": {"type": "split_range"}},
    "Mlow": {"law": {"type": "manual", "command": -1.0}, "actuator": {"type": "split_range"}},
}
"""Static clipping at 0.2, and each of the published thresholds fully on."""


@dataclass(frozen=True)
class Touched:
    """Effect of thresholds over a run, a value a seed."""

    entropy: Floats
    """[seeds, steps + 1], nats."""
    cut: Floats
    """[seeds], token updates that lost their gradient to a threshold."""
    tokens: float
    """Token updates there were."""


def part(name: str) -> dict[str, Any]:
    """The control configuration in which only the regions of `e1`, `e2+e3`, ... or `all` have a gradient."""
    if name == "all":
        return THRESHOLDS["static"]
    return {"law": {"type": "manual"}, "actuator": {"type": "regions_only", "regions": name.split("+")}}


def published_sign(name: str) -> int:
    """-1 or 1 where all regions of a part move entropy the same way, else 0."""
    signs = {SIGNS[region] for region in name.split("+")} if name != "all" else set()
    return signs.pop() if len(signs) == 1 else 0


def sign_rows(curves: Mapping[str, Floats]) -> tuple[list[tuple[str, ...]], str]:
    """A row under `SIGN_HEADS` for each part's entropies [seeds, steps + 1], nats, and in how many the sign holds."""
    rows: list[tuple[str, ...]] = []
    right: list[bool] = []
    for name, runs in curves.items():
        sign, start, end = published_sign(name), runs[:, 0], runs[:, -1]
        if sign:
            right.append(bool(np.all(np.sign(end - start) == sign)))
        verdict = ("yes" if right[-1] else "no") if sign else ""
        word = {-1: "falls", 1: "rises", 0: "open"}[sign]
        rows.append((name, word, f"{start.mean():.3f}", f"{end.min():.3f} to {end.max():.3f}", verdict))
    return rows, f"{sum(right)} of {len(right)} parts with a published sign have it on every seed."


def region_curves(
    plant: PolicyPlant = CALIBRATED,
    steps: int = 25,
    seeds: Sequence[int] = (0, 1, 2),
    parts: Sequence[str] = (*REGIONS, "all"),
) -> dict[str, Floats]:
    """Entropy over steps when only the tokens of some regions have a gradient; static clipping at 0.2 throughout.

    Regions are told apart by surprisal against entropy, at the rollout. The loss is divided by all tokens, so that
    a region pulls as hard as it does within the whole batch.

    Returns:
        For each part [seeds, steps + 1], nats: the mean over contexts, without sampling error.
    """
    return {name: runs[0] for name, runs in _runs(plant, steps, seeds, {name: part(name) for name in parts}).items()}


def touched(plant: PolicyPlant = CALIBRATED, steps: int = 25, seeds: Sequence[int] = (0, 1, 2)) -> dict[str, Touched]:
    """Static clipping and the published thresholds: what they cut, and where entropy went."""
    tokens = steps * plant.epochs * plant.prompts * plant.group_size * plant.tokens
    runs = _runs(plant, steps, seeds, THRESHOLDS)
    return {name: Touched(entropy, cut * tokens, tokens) for name, (entropy, cut) in runs.items()}


def _runs(
    plant: PolicyPlant, steps: int, seeds: Sequence[int], controls: Mapping[str, dict[str, Any]]
) -> dict[str, tuple[Floats, Floats]]:
    """Results of each control: entropies [seeds, steps + 1], and the share of token updates that were cut [seeds]."""
    configs = [parse(ControlConfig, control) for control in controls.values() for _ in seeds]
    runs = simulate_policies(configs, [plant] * len(configs), steps + 1, list(seeds) * len(controls))
    groups = {name: runs[i * len(seeds) : (i + 1) * len(seeds)] for i, name in enumerate(controls)}
    return {
        name: (np.array([run.entropy for run in own]), np.array([run.cut[:steps].mean() for run in own]))
        for name, own in groups.items()
    }


def draw_parts(axes: Axes, curves: Mapping[str, Floats]) -> None:
    """Curves [seeds, steps + 1] of each part: the mean over seeds, every seed a thin line, the whole batch dashed."""
    colours = {name: COLOURS.get(name, PAIR_COLOURS[published_sign(name)]) for name in curves}
    for name, runs in curves.items():
        mean, end = runs.mean(0), runs.shape[1] - 1
        axes.semilogy(runs.T, color=colours[name], linewidth=0.5, alpha=0.5)
        axes.semilogy(mean, "--" if name == "all" else "-", color=colours[name], linewidth=1.8)
    axes.axhline(next(iter(curves.values()))[:, 0].mean(), color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="step [rollouts]", ylabel="policy entropy [nats]", xlim=(0, end))
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)
    _label({name: runs.mean(0)[-1] for name, runs in curves.items()}, end, colours, axes)


def _label(ends: Mapping[str, float], step: int, colours: Mapping[str, str], axes: Axes) -> None:
    """The name beside each curve's end, above the one below where both would lie on one line."""
    below, points = -math.inf, 72 / axes.figure.dpi
    for name, value in sorted(ends.items(), key=lambda item: item[1]):
        height = axes.transData.transform((step, value))[1] * points
        below = max(height, below + LABEL)
        text, place = "all" if name == "all" else name.upper(), (6, below - height)
        axes.annotate(
            text, (step, value), place, textcoords="offset points", va="center", color=colours[name], fontsize=8
        )
