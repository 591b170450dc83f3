"""A million controller steps under random and hostile inputs, every configuration feature on and off by chance.

    python -m tests.soak.adversarial [--steps 1000000] [--seed 31]

A session is one random configuration under 40 to 120 inputs: entropies honest, at their edges and impossible; batch
statistics and tensors with NaN, infinity, zero and overflow; between steps, saving, loading and changes of the
configuration. After every step: is anything not finite, or beyond a limit? After every session: do 20 good
measurements bring the controller back? Writes docs/results/adversarial.md.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import options, page, table
from entrostat import ControlConfig, Decision, EntropyController, InputError, policy_loss
from entrostat.inputs.configuration import parse
from tests.soak import adversarial_inputs as inputs

GOOD = 20
"""Good measurements after which a controller must have recovered."""
SHARE = 1 / 3
"""Of a fresh controller's swing, between an error up and an error down, that a recovered one must still have."""
SMALLEST = 1e-3
"""A swing below it, of a command of about 1, is that of a law without gains: a derivative alone leaves no trace."""
ROUNDING = 1e-9
"""A minibatch that is the whole rollout sums up in another order."""
PROBES = inputs.probes()
BATCH = replace(inputs.good_statistics(), vocab_size=None)


def main() -> None:
    chosen = options(__doc__, steps=1_000_000, seed=31)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    count: Counter[str] = Counter()
    with tqdm(total=chosen.steps, unit="step", unit_scale=True, mininterval=5) as bar:
        for session in range(chosen.steps):
            before = count["steps"]
            for complaint in complaints_of(Random(f"{chosen.seed}/{session}"), count):
                count["complaints"] += 1
                print(f"session {session}: {complaint}", file=sys.stderr)
            bar.update(count["steps"] - before)
            if count["steps"] >= chosen.steps:
                break
    page("adversarial", *blocks(count, chosen.seed))
    sys.exit(bool(count["complaints"]))


def complaints_of(rng: Random, count: Counter[str]) -> list[str]:
    """Those of a session; an error that is no refusal is one, and ends it."""
    try:
        return run_session(rng, count)
    except Exception as error:  # which is what this looks for
        return [f"raised {error!r}"]


def run_session(rng: Random, count: Counter[str]) -> list[str]:
    """Complaints about one configuration; `count` counts what was tried."""
    config = _parsed(rng)
    control, complaints = EntropyController(config), []
    count["sessions"] += 1
    for _ in range(rng.randint(40, 120)):
        try:
            control = _disturbed(control, rng, count)
        except InputError as error:
            return [*complaints, f"a state of its own was refused: {error} {config.law}"]
        before = control.state_dict()
        try:
            decision = _step(control, rng, count, complaints)
        except InputError:
            count["refused"] += 1  # a target above ln(vocabulary), found when the vocabulary is
            complaints += [] if control.state_dict() == before else ["a refusal changed the state"]
            continue
        count["steps"] += 1
        count["held"] += decision.held
        count["guard acted"] += decision.verdict.alarm is not None
        complaints += _wrong(control, decision, before)
    return complaints + _recovery(control, count)


def _parsed(rng: Random) -> ControlConfig:
    while True:
        try:
            return parse(ControlConfig, inputs.configuration(rng))
        except InputError:  # features that exclude each other
            continue


def _disturbed(control: EntropyController, rng: Random, count: Counter[str]) -> EntropyController:
    """Now and then: another configuration, or the state through JSON into a new controller, of another law too."""
    kind = rng.random()
    if kind < 0.03:
        count["reconfigured"] += 1
        control.reconfigure(_parsed(rng))
    elif kind < 0.06:
        count["saved and loaded"] += 1
        config = control.config if rng.random() < 0.7 else _parsed(rng)
        state, control = json.dumps(control.state_dict(), allow_nan=False), EntropyController(config)
        control.load_state_dict(json.loads(state))
    return control


def _step(control: EntropyController, rng: Random, count: Counter[str], complaints: list[str]) -> Decision:
    kind, kl = rng.random(), inputs.divergence(rng)
    if kind < 0.55:
        count["inputs: a number"] += 1
        return control.step_scalar(inputs.entropy(rng), kl=kl)
    if kind < 0.9:
        count["inputs: batch statistics"] += 1
        return control.step_scalar(inputs.entropy(rng), regions=inputs.statistics(rng), kl=kl)
    count["inputs: tensors"] += 1
    tokens, advantages, mask = inputs.tensors(rng)
    decision = control.step(tokens, advantages, mask, groups=torch.tensor([0, 0, 1, 1]), kl=kl)
    try:
        decision = control.refine(tokens, tokens, advantages, mask)
        loss, _ = policy_loss(tokens.logprob, tokens, advantages, mask, decision, now=tokens)
    except InputError as error:
        complaints.append(f"after a step that was taken: {error}")
        return decision
    if not decision.batch.nonfinite and not math.isfinite(loss):
        complaints.append(f"the loss of a finite batch is {loss}")
    return decision


def _wrong(control: EntropyController, decision: Decision, before: dict[str, Any]) -> list[str]:
    """What is not finite, or beyond its limit."""
    guard, found = control.config.guard, []
    terms = decision.terms
    if not all(math.isfinite(x) for x in (terms.p, terms.i, terms.d, terms.feedforward, terms.demand)):
        found.append(f"a term is not finite: {terms}")
    low, high = decision.reach
    last = before["law"]["command"]
    if not (decision.held or low - ROUNDING <= decision.command <= high + ROUNDING):
        found.append(f"the command is {decision.command}, and the batch gives {low} to {high}")
    nearest = last if decision.held else decision.reach.nearest(last)  # the batch's own ends may have moved further
    if guard.rate is not None and abs(decision.command - nearest) > guard.rate + 1e-12:
        found.append(f"the command moved from {last} to {decision.command}, faster than {guard.rate}")
    followed = control.config.law.type == "pid" and not before["hand_over"]
    if decision.held and followed and control.state_dict()["law"] != before["law"]:
        found.append("a measurement that is not finite changed the law's state")
    found += _wrong_thresholds(control, decision)
    try:
        json.dumps(control.state_dict(), allow_nan=False)
    except ValueError:
        found.append(f"the state is no JSON: {control.state_dict()}")
    return found


def _wrong_thresholds(control: EntropyController, decision: Decision) -> list[str]:
    guard, found = control.config.guard, []
    try:
        thresholds = decision.thresholds(*PROBES)
    except InputError:
        return [] if decision.batch.contributions is None else ["a batch that was measured has no thresholds"]
    for name, eps, (low, high) in zip(("low", "high"), thresholds, (guard.low, guard.high), strict=True):
        smallest, largest = (float(x) for x in eps.aminmax())
        if not (low - 1e-6 <= smallest and largest <= high + 1e-6):
            found.append(f"eps_{name} runs from {smallest} to {largest}, beyond [{low}, {high}]")
    return found


def _recovery(control: EntropyController, count: Counter[str]) -> list[str]:
    """Whether 20 good measurements bring it back: nothing held, the guard at rest, and its old swing."""
    if not _judgeable(control):
        count["recoveries not judged"] += 1
        return []
    decision = _on_target(control, GOOD, 0.0)
    if decision.held or decision.verdict.mode != "control" or decision.verdict.static_share:
        return [f"not back after {GOOD} good measurements: {decision.verdict}"]
    state = control.state_dict()
    law = control.config.law.start() | {k: v for k, v in state["law"].items() if k in ("type", "origin", "measurement")}
    calm = control.config.model_copy(update={"guard": control.config.guard.model_copy(update={"patience": 1000})})
    fresh, own = (_swing(calm, state | {"law": some}) for some in (law, state["law"]))
    count["recoveries judged"] += 1
    if fresh < SMALLEST:
        return []
    count["recoveries judged by their swing"] += 1
    return [] if own >= SHARE * fresh else [f"swings by {own}, a fresh one by {fresh}: {control.config} {state}"]


def _judgeable(control: EntropyController) -> bool:
    """Whether 20 steps can show it: no slower rate limit than 0.1, and a target that leaves the dead band."""
    law, guard = control.config.law, control.config.guard
    if law.type != "pid" or min(law.rate_limit or 2, guard.rate or 2) < 2 / GOOD:
        return False
    state = control.state_dict()
    curve = control.config.target.at(state["step"] + np.arange(2 * GOOD), state["initial_entropy"] or 0.5)
    return curve.min() > 0.1 and curve.max() < 2 and law.dead_band < 0.05


def _swing(config: ControlConfig, state: dict[str, Any]) -> float:
    """Command after 20 measurements below the target, less that after 20 above it."""
    ends = []
    for error in (-0.5, 0.5):
        control = EntropyController(config)
        control.load_state_dict(state)
        ends.append(_on_target(control, GOOD, error).command)
    return ends[0] - ends[1]


def _on_target(control: EntropyController, steps: int, error: float) -> Decision:
    """Good measurements, at (1 + error) of the target."""
    for _ in range(steps):
        state = control.state_dict()
        target = control.config.target.at(state["step"], state["initial_entropy"] or 0.5)
        decision = control.step_scalar(float(target) * (1 + error), regions=BATCH, kl=0.0)
    return decision


def blocks(count: Counter[str], seed: int) -> tuple[str, ...]:
    return (
        "# A million steps under hostile inputs",
        f"`python -m tests.soak.adversarial --seed {seed}`",
        f"{count['steps']:,} steps, {count['complaints']} complaints.",
        "A complaint is: a threshold or a command beyond its limit or not finite; a state that is no JSON, or that "
        "a measurement without a number has moved, or that its own controller refuses to load; an error that is "
        "no refusal; a finite batch with a loss that is not; a controller that "
        f"{GOOD} good measurements do not bring back. Back is: nothing held, the guard at rest, and between "
        f"measurements far below and far above the target at least {SHARE:.0%} of the swing of a controller "
        f"without that past. Not judged: laws other than PID, rate limits that need more than {GOOD} steps from "
        f"end to end, targets outside 0.1 to 2 nats; and of gains that swing the command by less than "
        f"{SMALLEST:g} only that nothing is held.",
        table(
            "what was tried | times",
            [(name, f"{n:,}") for name, n in sorted(count.items()) if name not in ("steps", "complaints")],
        ),
    )


if __name__ == "__main__":
    main()
