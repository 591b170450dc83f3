"""Oscillatory decay: a relay with hysteresis (Flexible Entropy Control, arXiv 2602.09782, section 5)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...limits import Limits
from ..base import Law, Reading, State, Terms, held


class OscillatoryDecay(Law):
    """Boost once the entropy is at the floor, suppress once it is above a ceiling that comes down to the floor:

        tau_low = floor H_init,    tau_high(k) = tau_low + (H_init - tau_low) (1 - k / T)
        v_k = 1 once H <= tau_low,    -1 once H > tau_high(k),    else v_{k-1}

    With the actuator `split_range` v = 1 is the source's (Hup, eps_std), its state 1, and v = -1 (eps_std, Mlow), its
    state 0. floor 0.2 is the source's. It follows no target. Left open: the state at the start, here 0, since H starts
    at the ceiling and has to come down; and what follows T, where the ceiling stays at the floor here. H_init is the
    run's first measurement.
    """

    follows_target: ClassVar[bool] = False
    type: Literal["oscillatory_decay"] = "oscillatory_decay"
    steps: Annotated[int, Field(ge=2, le=10**9)]
    """T, the steps of the whole run."""
    floor: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Lower threshold, as a share of the initial entropy."""

    @property
    def suits_density(self) -> bool:
        """No: its thresholds are shares of the entropy."""
        return False

    def start(self, command: float = 0.0) -> State:
        """The state before the first step; the relay suppresses."""
        return {"count": 0, "initial": None, "boosting": False, "command": command}

    def take_over(self, state: State, reading: Reading) -> State:
        """The state as it is: a relay has no bump to avoid."""
        return state

    def step(self, state: State, reading: Reading, limits: Limits | None = None) -> tuple[Terms, State]:
        """One switch, or none; a measurement that is not finite changes nothing."""
        limits = limits or reading.reach
        if not self.can_act(reading):
            return held(state, limits)
        entropy, initial = reading.measurement, state["initial"]
        if initial is None:
            initial = reading.initial if math.isfinite(reading.initial) else entropy
        low, high = self.thresholds(state["count"], initial)
        boosting = entropy <= low or (state["boosting"] and entropy <= high)
        demand = 1.0 if boosting else -1.0
        terms = Terms(demand=demand).applied(limits.nearest(demand))
        state = {"count": state["count"] + 1, "initial": initial, "boosting": boosting, "command": terms.command}
        return terms, state

    def thresholds(self, step: int, initial: float) -> tuple[float, float]:
        """tau_low and tau_high, nats, of a run that started at `initial`."""
        low = self.floor * initial
        return low, low + (initial - low) * max(1 - step / self.steps, 0.0)
