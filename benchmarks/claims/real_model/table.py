"""docs/results/real_model.md, from the figures of the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.claims.real_model import runs
from benchmarks.claims.real_model.figures import SKIP, TRL, Figures, of
from benchmarks.common import difference, page, table
from benchmarks.cost.real_step import ROWS, TUNED, as_table
from entrostat.sim.policy.regions import SIGNS
from entrostat.trainer.config import load_config

HEAD = """`python -m benchmarks.claims.real_model`: SmolLM2-135M-Instruct (135 M parameters, vocabulary 49,152), all
weights trained in float32 on one core of a CPU; reasoning-gym's `chain_sum` with two one-digit terms after three solved
ones; {steps} steps of {answers} answers, 4 minibatches, learning rate {rate:g}. `hold` asks for the initial entropy
throughout, `anneal` for a curve from 0.85 of it down to 0.25 at 93 % of the run. `control` has nothing else set{cuts};
`bonus` is the rival, whose step is {increment}. The number is the seed. Entropy
and reward: means of the first three and of the last ten steps. RMSE, net RMSE (without the sampling error of the
measured entropy) and bias in % of the target's mean, from step {skip} on; over all seeds with what one standard error
of the measured entropy leaves open, where a claim within it cannot be told. Against static clipping: d +- e, the
mean difference seed by seed and its standard error; above it for d > e, not below it for d >= 0, not so for d < -e, and
else it cannot be told. Update noise: the standard deviation of what a rollout's minibatches change by chance, as the
law estimates it, in % of the target; no command removes it. Held out: {heldout} prompts x {samples} answers at the
end."""
STEP = """CPU seconds of one thread by phase, mean of the steps after a first one: examples/smollm2.yaml, 12 prompts x 8
answers of up to 6 tokens, 4 minibatches (`python -m benchmarks.cost.real_step`). Each row keeps what the rows above it
have; one that was not run is missing, and what it adds is in the next."""
CHAIN = f"""Three problems solved in words and a fourth: 158 tokens of prompt, some 40 of answer, at most 64.
{runs.CHAIN_STEPS} steps of 64 answers in bfloat16, seed {runs.SEEDS[0]}; `control` asks for the initial entropy
throughout. Held out: 20 prompts x 8 answers. RMSE and bias: from step {SKIP} on.
What its log shows: [limits](../limits.md)."""
NOTES = """`distinct` counts spellings: 4, 4.0 and 04 are three different right answers.

pass_at_1 draws at temperature 1, so that entropy left at the end is error in it; `greedy` is the share of prompts whose
likeliest answer is right, and shows what of a difference is not sampling."""
Claim = tuple[str, list[list[float]], str, Callable[[], bool | None]]
"""Text, figures, how they are shown, and whether it holds; none: the figures cannot tell."""
HOLDS = {True: "yes", False: "**no**", None: "cannot be told"}
Values = Callable[[str], list[float]]
"""A figure of all runs of a kind."""
COLUMNS = {
    "entropy, start to end": ("start", "end", "kept"),
    "RMSE %": ("rmse", ".1f"),
    "net RMSE %": ("net_rmse", ".1f"),
    "bias %": ("bias", "+.1f"),
    "update noise %": ("update_noise", ".1f"),
    "reward, start": ("reward_start", ".2f"),
    "reward, end": ("reward", ".2f"),
    "pass_at_1": ("pass_at_1", ".2f"),
    "greedy": ("greedy", ".2f"),
    "pass_at_8": ("pass_at_8", ".2f"),
    "distinct": ("distinct", ".2f"),
    "KL": ("kl", ".3f"),
    "tokens an answer": ("tokens", ".1f"),
    **{f"eps {name}": (f"eps_{name}", ".2f") for name in SIGNS},
    "tokens cut %": ("cut", ".1f"),
    "bonus, end": ("bonus", ".2f"),
}
"""A column's figure and its form."""


def write(figures: Figures, size: runs.Size, increment: float | None, folder: Path) -> None:
    """The page of whatever is there.

    Args:
        increment: the rival's step, once it is chosen.
    """
    short, chain = of(figures, "static-", "control-", "cuts-", "bonus-"), of(figures, "chain-")
    blocks = ["# A real model", _head(size, increment, bool(of(figures, "cuts-"))), _verdicts(figures, size.steps)]
    blocks += ["## Short answers", _columns(short), NOTES] if short else []
    blocks += ["## With a chain of thought", CHAIN, _columns(chain)] if chain else []
    steps = {name: figures[name] for name in ROWS if name in figures}
    blocks += [*_regions(figures), "## A step's seconds", STEP, as_table(steps)]
    blocks += [*_cost(figures), *_trl(figures), *_chosen(figures, size)]
    page("real_model", *blocks, folder=folder)


def _head(size: runs.Size, increment: float | None, cuts: bool) -> str:
    chosen = "yet to be chosen" if increment is None else f"{increment:g}"
    return HEAD.format(
        cuts=", `cuts` is the same law over clip thresholds" if cuts else "",
        steps=size.steps,
        answers=8 * size.prompts,
        rate=load_config(runs.EXAMPLE).update.learning_rate,
        increment=f"{chosen}, the best of {', '.join(map(str, runs.INCREMENTS))} on seed {runs.TUNING}",
        skip=SKIP,
        heldout=size.heldout,
        samples=size.samples,
    )


def _columns(found: Mapping[str, Mapping[str, float]], names: Sequence[str] = tuple(COLUMNS)) -> str:
    """A line a run."""
    lines = ([name, *(_cell(run, *COLUMNS[column]) for column in names)] for name, run in found.items())
    return table(" | ".join(["run", *names]), lines)


def _cell(run: Mapping[str, float], figure: str, form: str, share: str = "") -> str:
    """Empty where there is no such figure."""
    if share:
        return f"{run[figure]:.2f} to {run[form]:.2f} ({run[share]:.0f} %)"
    return f"{run[figure]:{form}}" if figure in run else ""


def _verdicts(figures: Figures, steps: int) -> str:
    """Claims, and whether each holds."""

    def values(kind: str, figure: str) -> list[float]:
        return [run[figure] for run in of(figures, kind).values() if figure in run]

    kept, signs, share = values("static-", "kept"), _signs(figures), _share(figures)
    rows: list[Claim] = [("static clipping loses half of its entropy", [kept], "keeps {} %", lambda: max(kept) <= 50)]
    for curve in runs.CURVES:
        rows += _tracked(curve, partial(values, f"control-{curve}-"), steps - SKIP)
        rows += _of_curve(figures, curve)
    rows += [
        (
            "one region alone: E1, E4 lower entropy, E2, E3 raise it",
            [list(signs.values())],
            ", ".join(f"{name} {value:+.2f}" for name, value in signs.items()),
            lambda: all(np.sign(value) == SIGNS[name] for name, value in signs.items()),
        ),
        (
            "control costs at most 2 % of a step",
            [[share] if share else []],
            "{} %",
            lambda: share is not None and share <= 2,
        ),
    ]
    lines = []
    for asked, found, text, holds in rows:
        there = all(found)
        shown = text.format(*map(_range, found)) if there else "not run yet"
        lines.append([asked, shown, HOLDS[holds()] if there else ""])
    return table("asked for | found | holds", lines)


def _tracked(curve: str, ours: Values, steps: int) -> list[Claim]:
    """RMSE and bias over all seeds, between what the sampling error leaves open."""
    net, noise = np.array(ours("net_rmse")), np.array(ours("rmse")) ** 2 - np.array(ours("net_rmse")) ** 2
    if not len(net):
        return []
    low, high = net_between(net, noise, steps)
    centre, error = float(np.mean(ours("bias"))), float(np.sqrt(noise.sum() / steps) / len(noise))
    return [
        (
            f"`{curve}`: net RMSE at most 5 %",
            [net.tolist()],
            f"{{}} %, over all seeds {low:.1f} to {high:.1f} %",
            lambda: _told(low, high, 5),
        ),
        (
            f"`{curve}`: bias at most 1 %",
            [ours("bias")],
            f"{{}} %, over all seeds {centre:+.1f} +- {error:.1f} %",
            lambda: _told(abs(centre) - error, abs(centre) + error, 1),
        ),
    ]


def net_between(net: np.ndarray, noise: np.ndarray, steps: int) -> tuple[float, float]:
    """The net RMSE over several runs, less and more one standard error of its square.

    A run of n steps has mean(e^2) = net^2 + s^2 with e the error and s^2 the variance of the measured entropy; for
    normal errors its own variance is (2 s^4 + 4 net^2 s^2) / n.

    Args:
        net: [runs], %.
        noise: [runs], s^2, %^2.
        steps: n.
    """
    centre = float(np.mean(net**2))
    error = float(np.sqrt(np.sum(2 * noise**2 + 4 * net**2 * noise) / steps) / len(net))
    return max(centre - error, 0.0) ** 0.5, (centre + error) ** 0.5


def _told(low: float, high: float, limit: float) -> bool | None:
    """Whether it is at most `limit`; none where that lies between."""
    return None if low <= limit < high else high <= limit


def _of_curve(figures: Figures, curve: str) -> list[Claim]:
    """Held-out answers against static clipping's, on the seeds that both have."""
    asked = (("pass_at_1", "not below", not_below), ("pass_at_8", "above", above))
    return [_beside(figures, curve, *claim) for claim in asked]


def _beside(figures: Figures, curve: str, figure: str, than: str, holds: Callable[[np.ndarray], bool | None]) -> Claim:
    ours, static = (
        {name.removeprefix(kind): run[figure] for name, run in of(figures, kind).items() if figure in run}
        for kind in (f"control-{curve}-", "static-")
    )
    both = [seed for seed in ours if seed in static]
    pair = [[found[seed] for seed in both] for found in (ours, static)]
    apart = np.subtract(*pair)
    shown = f", {difference(apart, 3)}" if both else ""
    return f"`{curve}`: {figure} {than} static's", pair, "{} against {}" + shown, partial(holds, apart)


def above(apart: np.ndarray) -> bool | None:
    """Whether the mean of paired differences is above zero; none within one standard error of zero, or of one pair."""
    if len(apart) < 2:
        return None
    mean, error = apart.mean(), apart.std(ddof=1) / np.sqrt(len(apart))
    return True if mean - error > 0 else False if mean + error < 0 else None


def not_below(apart: np.ndarray) -> bool | None:
    """Whether the mean of paired differences is zero or more; none where it is less by no more than one standard error,
    or of one pair."""
    found = above(apart)
    return True if found is None and len(apart) > 1 and apart.mean() >= 0 else found


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _signs(figures: Figures) -> dict[str, float]:
    """Region -> change of entropy, nats: the last three steps less the first three."""
    return {name.removeprefix("region-"): run["change"] for name, run in of(figures, "region-").items()}


def _regions(figures: Figures) -> list[str]:
    signs = _signs(figures)
    if not signs:
        return []
    text = (
        "Entropy, nats: the last three of ten steps less the first three; only one region's tokens have a gradient, at "
        f"a learning rate of {runs.REGION_RATE:g}."
    )
    lines = [[n, {-1: "falls", 1: "rises"}[SIGNS[n]], f"{value:+.3f}"] for n, value in signs.items()]
    return ["## One region at a time", text, table("gradient from | published | change", lines)]


def _share(figures: Figures) -> float | None:
    """What control costs, % of a tuned step."""
    if not {"cost", TUNED} <= figures.keys():
        return None
    return 100 * figures["cost"]["control"] / figures[TUNED]["step"]


def _cost(figures: Figures) -> list[str]:
    share, cost = _share(figures), figures.get("cost")
    if cost is None or share is None:
        return []
    text = (
        f"To measure, decide and refine on top of static clipping takes {1e3 * cost['control']:.0f} ms, of it\n"
        f"`controller.step` {1e3 * cost['step']:.0f} ms (`python -m benchmarks.cost.real_control`): {share:.1f} % of a "
        "tuned step."
    )
    return ["## What control costs", text]


def _trl(figures: Figures) -> list[str]:
    found = {name: figures[name] for name in TRL if name in figures}
    if not found:
        return []
    spans = (("start", "end"), ("reward_start", "reward"))
    lines = [
        [name, int(run["rollouts"]), *(f"{run[first]:.2f} to {run[last]:.2f}" for first, last in spans)]
        for name, run in found.items()
    ]
    text = (
        "`examples/trl_smollm2.py`: LoRA of rank 16, `hold`, 4 optimizer steps a rollout, and 1, TRL's default.\n"
        "Entropy as TRL logs it, while it updates."
    )
    heads = "run | rollouts | entropy, start to end | reward, start to end"
    return ["## In TRL", text, table(heads, lines)]


def _chosen(figures: Figures, size: runs.Size) -> list[str]:
    names = ("entropy, start to end", "RMSE %", "net RMSE %", "reward, end")
    chosen, size = of(figures, "tune-"), runs.tuning_size(size)
    text = f"{size.steps} steps of {8 * size.prompts} answers; `hold`."
    return [f"## The bonus's step, on seed {runs.TUNING}", text, _columns(chosen, names)] if chosen else []
