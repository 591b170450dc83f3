"""Any call in any order with any number: a controller stays within its limits, and saving it changes nothing."""

import json
import math

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from entrostat import ControlConfig, EntropyController, InputError
from entrostat.inputs.configuration import parse
from entrostat.laws import PID
from entrostat.laws.base import Reading
from entrostat.limits import IDLE, UNIT, Limits
from entrostat.measure.tokens import TokenStatistics

NUMBERS = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e-6, 0.5, 0.7, 1.2, math.inf, -math.inf, math.nan])
ENTROPIES = st.floats(0, 2)
GAINS = st.sampled_from([0.0, 1e-6, 0.05, 0.5, 14.0, 1e6])
TARGETS = st.sampled_from(
    [
        {"type": "constant", "value": 0.6},
        {"type": "constant", "value": 0.9, "unit": "initial"},
        {"type": "linear", "start": 1.2, "end": 0.1, "steps": 7},
        {"type": "table", "points": [[0, 0.5], [3, 1.0], [9, 0.2]]},
    ]
)
LAWS = st.fixed_dictionaries(
    {"type": st.just("pid"), "kp": GAINS, "ki": GAINS},
    optional={
        "kd": GAINS,
        "error": st.sampled_from(["nats", "log"]),
        "rate_limit": st.sampled_from([1e-6, 0.1, 2.0]),
        "limit": st.sampled_from([1e-6, 0.5, 1.0, 4.0]),
        "dead_band": st.sampled_from([0.0, 0.02]),
        "setpoint_weight": st.floats(0, 1),
        "anti_windup": st.sampled_from(["conditional", "back_calculation"]),
    },
) | st.sampled_from(
    [
        {"type": "manual", "command": 0.3},
        {"type": "excitation", "shape": "staircase", "amplitude": 1.0, "hold": 1},
        {"type": "schedule", "steps": 9},
    ]
)
REACHES = st.sampled_from([None, UNIT, IDLE, Limits(-6.0, 1.0), Limits(-0.2, 3.0), Limits(0.0, 10.0)])
ACTUATORS = st.sampled_from([{"type": "static"}, {"type": "split_range"}, {"type": "region"}])
GUARDS = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["warn", "hold", "static", "stop"]),
        "patience": st.sampled_from([1, 3]),
        "rate": st.sampled_from([1e-6, 0.1]),
        "low": st.sampled_from([[-0.5, 0.3], [0.0, 1.0]]),
        "transition": st.sampled_from([1, 4]),
    },
)
CONFIGURATIONS = st.fixed_dictionaries({"target": TARGETS, "law": LAWS, "actuator": ACTUATORS, "guard": GUARDS})
TOKENS = TokenStatistics(
    torch.tensor([[0.0, -0.1, -3.0, -80.0]]), torch.full((1, 4), 0.5), torch.tensor([[0.0, 0.1, -0.1, 1.0]]), 16
)
ADVANTAGES = torch.tensor([[1.0, -1.0, 1.0, -1.0]])


class AnyOrder(RuleBasedStateMachine):
    """Two controllers get the same calls; the second is now and then replaced by one made from its saved state."""

    def __init__(self):
        super().__init__()
        self.config = parse(ControlConfig, {"target": {"type": "constant", "value": 0.6}})
        self.one, self.two = EntropyController(self.config), EntropyController(self.config)
        self.last = None
        self.limits = ()

    @rule(entropy=NUMBERS | ENTROPIES, kl=NUMBERS, reach=REACHES)
    def step(self, entropy, kl, reach):
        before = self.one.state_dict()
        self.limits = self.config.guard.low, self.config.guard.high
        self.actuator = self.config.actuator.type
        self.last, twin = (control.step_scalar(entropy, reach=reach, kl=kl) for control in (self.one, self.two))
        assert json.dumps(self.last.metrics(), allow_nan=False) == json.dumps(twin.metrics())
        if self.last.held and not before["hand_over"]:
            assert self.one.state_dict()["law"] == before["law"]

    @rule(content=CONFIGURATIONS)
    def change_gains_and_target(self, content):
        self.config = parse(ControlConfig, content)
        for control in (self.one, self.two):
            control.reconfigure(self.config)

    @rule()
    def save_and_load(self):
        state = json.dumps(self.two.state_dict(), allow_nan=False)
        self.two = EntropyController(self.config)
        self.two.load_state_dict(json.loads(state))

    @rule(state=st.recursive(st.none() | st.booleans() | NUMBERS | st.text(), st.lists, max_leaves=5))
    def load_nonsense(self, state):
        before = self.one.state_dict()
        for damaged in (state, before | {"law": state}, before | {"step": state}):
            try:
                self.one.load_state_dict(damaged)
            except InputError:
                assert self.one.state_dict() == before
            else:
                self.one.load_state_dict(before)

    @invariant()
    def stays_within_its_limits(self):
        if self.last is None:
            return
        assert self.last.held or self.last.reach.low <= self.last.command <= self.last.reach.high
        assert math.isfinite(self.last.command)
        if self.actuator == "balanced_bonus":  # needs a batch
            return
        for eps, (lowest, highest) in zip(self.last.thresholds(TOKENS, ADVANTAGES), self.limits, strict=True):
            assert bool(((eps >= lowest - 1e-6) & (eps <= highest + 1e-6)).all())

    @invariant()
    def states_are_equal_plain_json(self):
        assert json.dumps(self.one.state_dict(), allow_nan=False) == json.dumps(self.two.state_dict(), allow_nan=False)


AnyOrder.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_order = AnyOrder.TestCase


@settings(max_examples=100, deadline=None)
@given(law=LAWS.filter(lambda law: law["type"] == "pid"), readings=st.lists(st.tuples(*[ENTROPIES] * 4), max_size=30))
def test_twenty_good_readings_after_any_history_leave_a_pid_within_its_limit_and_moving_the_right_way(law, readings):
    pid = PID.model_validate(law | {"rate_limit": None, "kd": 0.0, "dead_band": 0.0, "setpoint_weight": 1.0})
    state = pid.start()
    for values in readings:
        _, state = pid.step(state, Reading(*values))
    ends = []
    for measurement in (0.3, 1.5):
        now = state
        for _ in range(20):
            terms, now = pid.step(now, Reading(0.9, 0.9, 0.9, measurement))
        assert abs(terms.command) <= min(pid.limit or 1.0, 1.0)
        ends.append(terms.command)
    assert ends[0] >= ends[1]
