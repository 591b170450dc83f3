"""Which tokens move entropy: training with the gradient of one region at a time (arXiv 2602.09782, section 3).

E1 alone and E4 alone lower entropy, E2 alone and E3 alone raise it, to first order; see `controller.regions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from controller.batch import REGIONS
from controller.configuration import parse
from controller.control import ControlConfig, EntropyController

from .closed_loop import Floats
from .policy_family import PolicyFamily
from .policy_plant import CALIBRATED, PolicyPlant
from .policy_rollout import Rollout

ALL = len(REGIONS)
STATIC = {"law": {"type": "manual"}, "actuator": {"type": "static"}}
COLOURS = {"e1": "#0072b2", "e2": "#e69f00", "e3": "#d55e00", "e4": "#56b4e9", "all": "black"}
"""Blues lower entropy, oranges raise it."""


def region_curves(
    plant: PolicyPlant = CALIBRATED, steps: int = 25, seeds: Sequence[int] = (0, 1, 2)
) -> dict[str, Floats]:
    """Entropy over steps when only the tokens of one region have a gradient; static clipping at 0.2 throughout.

    Regions are told apart by surprisal against entropy, at the rollout. The loss is divided by all tokens, so that
    a region pulls as hard as it does within the whole batch.

    Returns:
        `e1` ... `e4` and `all`, each [seeds, steps + 1], nats: the mean over contexts, without sampling error.
    """
    count = len(seeds)
    family = PolicyFamily([plant] * count * (ALL + 1), list(seeds) * (ALL + 1))
    part = torch.arange(ALL + 1).repeat_interleave(count)[:, None, None]
    controller, entropies = EntropyController(parse(ControlConfig, STATIC)), [family.entropy()]
    for _ in range(steps):
        rollout = family.rollout()
        decision = controller.step(rollout.tokens[0], rollout.advantages[0], rollout.mask[0], rollout.groups)
        family.update(rollout, decision, mask=_kept(rollout, part))
        entropies.append(family.entropy())
    curves = torch.stack(entropies, 1).double().view(ALL + 1, count, steps + 1).numpy()
    return dict(zip((*REGIONS, "all"), curves, strict=True))


def _kept(rollout: Rollout, part: Tensor) -> Tensor:
    return (rollout.regions == part) | (part == ALL)


def draw_regions(curves: Mapping[str, Floats], file: Path) -> None:
    """Draw `region_curves` to a PNG: the mean over seeds, every seed as a thin line, the whole batch dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in curves.items():
        mean, colour, end = runs.mean(0), COLOURS[name], runs.shape[1] - 1
        axes.semilogy(runs.T, color=colour, linewidth=0.6, alpha=0.5)
        axes.semilogy(mean, "--" if name == "all" else "-", color=colour, linewidth=2)
        label = "all tokens" if name == "all" else f"{name.upper()} alone"
        axes.annotate(label, (end, mean[-1]), (6, 0), textcoords="offset points", va="center", color=colour)
    axes.axhline(curves["all"][:, 0].mean(), color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="step [rollouts]", ylabel="policy entropy [nats]", xlim=(0, end))
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(f"Updates from one region at a time ({len(runs)} seeds)", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
