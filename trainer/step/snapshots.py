"""The inside of a step, a few times a run: some tokens, some answers and the authority curve, in a bounded file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entrostat.clipping import cut_tokens, importance_ratio
from entrostat.decision import Decision
from entrostat.inputs.files import write_atomically
from entrostat.measure.regions import region_of
from entrostat.measure.tensors import per_token

from ..reporting.snapshots import SNAPSHOTS, Answer, Authority, Snapshot, Tokens, read_snapshots
from .batch import Batch
from .measure import statistics
from .session import Session

RESPONSES, TOKENS, ANSWERS = 32, 240, 8
LONGEST, PROMPT = 160, 400
"""Tokens of an answer and characters of a prompt that are kept."""
COMMANDS = 41
"""Points of the authority curve, from one end of the batch's commands to the other."""


class Snapshots:
    """Takes at most `count` + 1 snapshots of a run of `steps` steps, evenly spread, the last step among them."""

    def __init__(self, folder: Path, steps: int, count: int, start: int, lead: bool) -> None:
        """`start`: the first step of this process; snapshots from it on are dropped. Only `lead` writes."""
        self._path, self._lead, self._last = folder / SNAPSHOTS, lead, steps - 1
        self._every = math.ceil(steps / count) if count else 0
        if lead and self._path.exists():
            kept = [line for line in read_snapshots(folder) if line.step < start]
            write_atomically(self._path, "".join(line.model_dump_json() + "\n" for line in kept))

    def take(self, session: Session, step: int, batch: Batch, decision: Decision) -> None:
        """Look at the step, after its update, where one is due. Every rank calls it; the controller is only read."""
        if not self._every or (step % self._every and step != self._last):
            return
        snapshot = look(session, step, batch, decision)
        if self._lead:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(snapshot.model_dump_json() + "\n")


@torch.no_grad()
def look(session: Session, step: int, batch: Batch, decision: Decision) -> Snapshot:
    """A snapshot of this rank's part of the batch, under the policy as it is now."""
    rows = _spread(len(batch.rewards), min(RESPONSES, session.engine.rows)).to(batch.rewards.device)
    rollout, old = batch.rollout.rows(rows), batch.tokens[rows]
    now = statistics(session, session.engine.model, rollout)
    a = per_token(batch.advantages[rows], old.logprob)
    eps_low, eps_high = decision.thresholds(old, a, now.logprob)
    ratio = importance_ratio(now.logprob - old.logprob)
    cut = torch.zeros_like(rollout.mask)
    for at in (ratio, torch.ones_like(ratio)):
        low, high = cut_tokens(at, a, eps_low, eps_high)
        cut |= low | high
    finite = old.logprob.isfinite() & old.entropy.isfinite() & ratio.isfinite()
    seen = {
        "surprisal": -old.logprob,
        "entropy": old.entropy,
        "advantage": a,
        "threshold": torch.where(a > 0, eps_high, eps_low),
        "ratio": ratio,
        "region": (region_of(a, old.logprob, old.entropy) + 1) * (a != 0),
        "cut": cut,
    }
    return Snapshot(
        step=step,
        tokens=_tokens(seen, rollout.mask & finite & (a != 0)),
        answers=[_answer(session, batch, seen, int(rows[i]), i) for i in _spread(len(rows), ANSWERS).tolist()],
        authority=_authority(session, decision),
    )


def _spread(size: int, most: int) -> Tensor:
    """At most `most` indices, evenly over range(size)."""
    return torch.linspace(0, size - 1, min(size, most)).round().long()


def _tokens(seen: dict[str, Tensor], live: Tensor) -> Tokens:
    picked = _spread(int(live.sum()), TOKENS).to(live.device) if live.any() else slice(0)
    return Tokens(**{name: _numbers(values[live][picked], name in ("region", "cut")) for name, values in seen.items()})


def _answer(session: Session, batch: Batch, seen: dict[str, Tensor], row: int, i: int) -> Answer:
    rollout, tokenizer = batch.rollout, session.tokenizer
    keep = rollout.mask[row].nonzero()[:LONGEST, 0]
    prompt = rollout.sequences[row, : rollout.prompt_length][rollout.attention_mask[row, : rollout.prompt_length] > 0]
    return Answer(
        prompt=tokenizer.decode(prompt, skip_special_tokens=True)[-PROMPT:],
        reward=float(batch.rewards[row]),
        advantage=_short(float(seen["advantage"][i][keep].mean())) if len(keep) else 0.0,
        tokens=tokenizer.batch_decode(rollout.actions[row, keep][:, None]),
        region=_numbers(seen["region"][i, keep], whole=True),
        cut=_numbers(seen["cut"][i, keep], whole=True),
    )


def _authority(session: Session, decision: Decision) -> Authority | None:
    if decision.reach.idle:
        return None
    actuator, commands = session.control.config.actuator, np.linspace(*decision.reach, COMMANDS).tolist()
    change = [actuator.actuate(v, decision.batch).change for v in commands]
    values = [*change, decision.command, decision.actuation.change]
    if not all(map(math.isfinite, values)):
        return None
    chosen = (_short(decision.command), _short(decision.actuation.change))
    return Authority(command=[_short(v) for v in commands], change=[_short(x) for x in change], chosen=chosen)


def _numbers(values: Tensor, whole: bool = False) -> list[Any]:
    return values.long().tolist() if whole else [_short(x) for x in values.tolist()]


def _short(value: float) -> float:
    """Four digits: what a plot shows, in a file that stays small."""
    return float(f"{value:.4g}")
