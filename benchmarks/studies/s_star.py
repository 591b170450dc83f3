"""S* = p (ln p + H) in place of S: how alike the two are on tokens, and how the adaptive law tracks with each.

    python -m benchmarks.studies.s_star [--seeds 25 26] [--out runs/s_star]

Writes docs/results/s_star.md. The runs are examples/controlled.yaml with nothing set, or clip thresholds alone.
Nothing was chosen on them. SmolLM2 wants `make smollm2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.common import errors, joined, kept, options, page, quiet, table
from entrostat import TokenStatistics, statistics_without_logits, token_statistics
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import sample, train_step
from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.summary import SKIP, summarise
from entrostat.trainer.run import open_session
from entrostat.trainer.step import measure

EXAMPLE, BATCHES = "examples/controlled.yaml", 4
POLICIES = {"the shipped policy, 16 tokens": EXAMPLE, "SmolLM2-135M-Instruct, 49,152 tokens": "examples/smollm2.yaml"}
VOCAB, BLOCK, SPREADS = 50_000, 1024, (1, 2, 3)
"""Random logits: so many a row, rows at a time, and their standard deviations."""
ACTUATORS = {"none named: a bonus": [], "clip thresholds": ["control.actuator={type: sensitivity}"]}


def main() -> None:
    chosen = options(__doc__, seeds=[25, 26], out=Path("runs/s_star"))
    chosen.out.mkdir(parents=True, exist_ok=True)
    kinds = {name: rollouts(path) for name, path in POLICIES.items()}
    kinds |= {f"random logits, sd {spread}, {VOCAB:,} tokens": drawn(spread) for spread in SPREADS}
    runs = [(a, seed, name) for a in ACTUATORS for seed in chosen.seeds for name in ("S", "S*")]
    page(
        "s_star",
        "# S from a token's probability and the entropy alone",
        f"`python -m benchmarks.studies.s_star --seeds {joined(chosen.seeds)}`",
        f"S* = p (ln p + H) against the exact S, on tokens sampled from each: {BATCHES} rollouts of a policy as its "
        f"example starts, or {BATCHES * BLOCK} rows of logits. In the last column a token counts by its |S|:",
        table(
            "sampled from | tokens | Spearman | equal sign, % | weighed by S, %",
            [(name, *alike(parts)) for name, parts in kinds.items()],
        ),
        f"The adaptive law on the curve of `{EXAMPLE}`, in % of the target's mean, from step {SKIP} on:",
        table(
            "actuator | seed | sensitivity | RMSE | without sampling error | bias",
            [(*run, *errors(summarise(tracked(chosen.out, *run)))) for run in runs],
        ),
    )


def rollouts(path: str) -> Iterator[TokenStatistics]:
    """A policy's own responses, packed."""
    session = open_session(load_config(path, quiet(8, 8)))
    session.sampler.push("here")
    for step in range(BATCHES):
        rollout = sample(session, step).rollout
        yield measure.sampled_statistics(session, rollout)[rollout.mask]


def drawn(spread: float) -> Iterator[TokenStatistics]:
    """A token for each row of normal logits, packed."""
    g = torch.Generator().manual_seed(0)
    for _ in range(BATCHES):
        logits = spread * torch.randn(BLOCK, VOCAB, generator=g)
        yield token_statistics(logits, torch.multinomial(logits.softmax(-1), 1, generator=g)[:, 0])


def alike(parts: Iterable[TokenStatistics]) -> tuple[str, ...]:
    """A row of the first table."""
    s, star = np.concatenate([[part.sensitivity, starred(part).sensitivity] for part in parts], axis=1)
    same = np.sign(s) == np.sign(star)
    weighed = np.average(same, weights=np.abs(s))
    return f"{len(s):,}", f"{spearmanr(s, star).statistic:.3f}", f"{100 * same.mean():.1f}", f"{100 * weighed:.1f}"


def starred(tokens: TokenStatistics) -> TokenStatistics:
    """The same with S* in place of S."""
    star = statistics_without_logits(tokens.logprob, tokens.entropy, tokens.vocab_size)
    return replace(tokens, sensitivity=star.sensitivity)


def tracked(out: Path, actuator: str, seed: int, name: str) -> Run:
    """A run whose control sees S or S*, or what it left when it was run before."""
    file = out / f"{list(ACTUATORS).index(actuator)}-{seed}-{name}.jsonl"
    return kept(file, _rows(ACTUATORS[actuator], seed, name))


def _rows(actuator: list[str], seed: int, name: str) -> Iterator[dict[str, float]]:
    def measured(*args: Any, **kwargs: Any) -> TokenStatistics:
        return starred(token_statistics(*args, **kwargs))

    # where the trainer takes its statistics from, since no setting of a run leaves S out
    measure.token_statistics = token_statistics if name == "S" else measured
    session = open_session(load_config(EXAMPLE, [f"seed={seed}", *actuator, *quiet(8, 8)]))
    for step in range(session.config.steps):
        yield {"step": step} | train_step(session, step)


if __name__ == "__main__":
    main()
