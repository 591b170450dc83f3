"""Oscillatory decay: a relay with hysteresis (Flexible Entropy Control, arXiv 2602.09782, section 5)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from ..configuration import Config
from .interface import Reading, Realise, State, Terms, held


class OscillatoryDecay(Config):
    """Boost once the entropy is at the floor, suppress once it is above a ceiling that comes down to the floor:

        tau_low = floor H_init,    tau_high(k) = tau_low + (H_init - tau_low) (1 - k / T)
        v_k = 1 once H <= tau_low,    -1 once H > tau_high(k),    else v_{k-1}

    With the actuator `split_range` v = 1 is the source's (Hup, eps_std), its state 1, and v = -1 (eps_std, Mlow), its
    state 0. floor 0.2 is the source's. It follows no target. Left open: the state at the start, here 0, since H starts
    at the ceiling and has to come down; and what follows T, where the ceiling stays at the floor here. H_init is the
    first measurement.
    """

    type: Literal["oscillatory_decay"] = "oscillatory_decay"
    steps: Annotated[int, Field(ge=2, le=10**9)]
    """T, the steps of the whole run."""
    floor: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Lower threshold, as a share of the initial entropy."""

    def start(self, command: float = 0.0) -> State:
        """The state before the first step; the relay suppresses."""
        return {"count": 0, "initial": None, "boosting": False, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """From its beginning: a relay has no bump to avoid."""
        return self.start(state["command"])

    def step(self, state: State, reading: Reading, realise: Realise = float) -> tuple[Terms, State]:
        """One switch, or none; a measurement that is not finite changes nothing."""
        entropy = reading.measurement
        if not math.isfinite(entropy):
            return held(state)
        initial = entropy if state["initial"] is None else state["initial"]
        low, high = self.thresholds(state["count"], initial)
        boosting = entropy <= low or (state["boosting"] and entropy <= high)
        demand = 1.0 if boosting else -1.0
        terms = Terms(demand=demand).applied(realise(demand))
        state = {"count": state["count"] + 1, "initial": initial, "boosting": boosting, "command": terms.command}
        return terms, state

    def thresholds(self, step: int, initial: float) -> tuple[float, float]:
        """tau_low and tau_high, nats, of a run that started at `initial`."""
        low = self.floor * initial
        return low, low + (initial - low) * max(1 - step / self.steps, 0.0)
