"""Any legal use of the library, in any dtype, container and order: a right answer or one sentence."""

import json
import math
import re
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from entrostat import (
    BatchStatistics,
    ControlConfig,
    EntropyController,
    InputError,
    TokenStatistics,
    batch_statistics,
    linear_statistics,
    policy_loss,
    token_statistics,
)
from entrostat.actuators import AnyActuator, RegionsOnly
from entrostat.advantages import group_advantages, no_spread_fraction
from entrostat.inputs.configuration import parse

VOCAB = 7
QUIET = settings(phases=[Phase.generate], max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def containers(tensor, dtypes):
    """The same values as a tensor of another dtype, layout or device, a NumPy array, or lists."""
    return st.one_of(
        *(st.just(tensor.to(dtype).to(device)) for dtype in dtypes for device in DEVICES),
        st.just(tensor.repeat_interleave(2, -1)[..., ::2]),
        st.just(tensor.numpy().copy()),
        st.just(tensor.numpy()[..., ::-1].copy()[..., ::-1]),
        *([st.just(tensor.tolist())] if tensor.numel() else []),  # an empty list has neither width nor kind
    )


@st.composite
def batches(draw):
    """Logits, actions, advantages, mask and groups of a rollout, in plain tensors; eighths are exact in every dtype."""
    rows, time = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    logits = torch.from_numpy(rng.integers(-16, 17, (rows, time, VOCAB)) / 8).float()
    actions = torch.from_numpy(rng.integers(0, VOCAB, (rows, time)))
    advantages = torch.from_numpy(rng.integers(-8, 9, draw(st.sampled_from([(rows,), (rows, 1), (rows, time)]))) / 8)
    mask = torch.from_numpy(rng.random((rows, time)) < draw(st.sampled_from([0.0, 0.7, 1.0])))
    return logits, actions, advantages.float(), mask, torch.from_numpy(rng.integers(-2, 3, rows))


def as_groups(ids):
    """Prompts as integers or by name."""
    names = [f"prompt {number}" for number in ids.tolist()]
    if not names:
        return st.just(ids)
    return containers(ids, (torch.int8, torch.int32, torch.int64)) | st.sampled_from(
        [names, tuple(names), np.array(names), np.array(names, dtype=object)]
    )


JUNK = st.one_of(
    st.sampled_from(
        [None, "high", b"x", {}, {"a": 1}, object(), 1j, [[1], [1, 2]], ["a", 1], 10**400, torch.Size([2])]
    ),
    st.floats(),
    st.integers(-3, 3),
    st.booleans(),
    st.builds(
        lambda shape, dtype, value: torch.full(shape, value).to(dtype),
        st.lists(st.integers(0, 3), max_size=4),
        st.sampled_from([*INTEGERS, *FLOATS, torch.bool, torch.complex64]),
        st.sampled_from([0.0, 1.0, 3.0, -100.0, math.nan, math.inf]),
    ),
    st.builds(
        lambda shape, kind: np.zeros(shape, kind), st.lists(st.integers(0, 3), max_size=3), st.sampled_from("fiO?U")
    ),
    st.just(torch.eye(3).to_sparse()),
)


def attempt(call, *arguments, **named):
    """What the call returns, or none where it ends in one sentence; any other error is a failure."""
    try:
        return call(*arguments, **named)
    except InputError as error:
        message = str(error)
        assert re.fullmatch(r"[^\n]*[^.?!\s][.?]", message), message
        assert len(message) < 400, message
        return None


def number(value):
    """The same number as Python, NumPy and PyTorch hold it."""
    makers = [float, np.float32, np.float64, np.array, torch.tensor, lambda x: torch.tensor([x]), Fraction]
    makers += [lambda x: torch.tensor(x, dtype=torch.bfloat16), lambda x: torch.tensor(x, requires_grad=True)]
    return st.sampled_from([maker(value) for maker in makers])


def controllers(law, actuator):
    config = {"target": {"type": "constant", "value": 0.75}, "law": law, "actuator": actuator}
    return [EntropyController(parse(ControlConfig, config)) for _ in range(2)]


LAWS = st.sampled_from(
    [{"type": "pid", "kp": 0.5, "ki": 0.1}, {"type": "adaptive"}, {"type": "manual", "command": 0.3}]
)
ACTUATORS = st.sampled_from(
    [
        {"type": kind.model_fields["type"].default} | ({"regions": ["e1"]} if kind is RegionsOnly else {})
        for kind in get_args(get_args(AnyActuator)[0])
    ]
)
GUARDS = st.sampled_from([{}, {"action": "hold", "patience": 1, "low": [0.5, 0.7]}, {"kl_limit": 0.2, "patience": 1}])
MEASUREMENTS = st.sampled_from([{}, {"share": 0.5}])
REACHES = st.sampled_from([None, (-1.0, 1.0), (0.0, 0.0), (-6.0, np.float32(2.0))])


@QUIET
@given(data=st.data(), batch=batches(), law=LAWS, actuator=ACTUATORS)
def test_every_container_of_the_same_numbers_gives_the_same_decision_and_loss(data, batch, law, actuator):
    logits, actions, advantages, mask, groups = batch
    plain = token_statistics(logits, actions)
    tokens = token_statistics(
        data.draw(containers(logits, FLOATS)),
        data.draw(containers(actions, INTEGERS)),
        data.draw(number(1.0)),
        vocab_size=data.draw(st.sampled_from([None, VOCAB, np.int64(VOCAB), torch.tensor(VOCAB)])),
    )
    torch.testing.assert_close(tokens.entropy, plain.entropy)
    given = data.draw(containers(advantages, FLOATS)), data.draw(containers(mask, (*INTEGERS, *FLOATS)))
    named = {"kl": data.draw(number(0.25)), "momentum": data.draw(number(0.5)), "updates": data.draw(number(2.0))}
    one, two = controllers(law, actuator)
    decision = one.step(tokens, *given, groups=data.draw(as_groups(groups)), **named)
    expected = two.step(plain, advantages, mask, groups=groups, kl=0.25, momentum=0.5, updates=2)
    assert decision.metrics() == pytest.approx(expected.metrics(), rel=1e-5, abs=1e-6)
    assert json.dumps(one.state_dict(), allow_nan=False)
    decision, expected = one.refine(tokens, tokens, *given), two.refine(plain, plain, advantages, mask)
    assert decision.command == pytest.approx(expected.command, abs=1e-5)
    loss, metrics = policy_loss(tokens.logprob, tokens, *given, decision, normaliser=data.draw(number(4.0)), now=tokens)
    same, _ = policy_loss(plain.logprob, plain, advantages, mask, expected, normaliser=4, now=plain)
    torch.testing.assert_close(loss.float(), same.float(), atol=1e-5, rtol=1e-4)
    assert all(math.isfinite(value) for value in metrics.values())


@QUIET
@given(data=st.data(), batch=batches())
def test_rewards_and_masks_of_every_container_give_the_same_advantages_and_statistics(data, batch):
    logits, actions, _, mask, _ = batch
    rewards = mask.any(1, keepdim=True).expand(-1, 2).contiguous()
    given = data.draw(containers(rewards, (*INTEGERS, *FLOATS)))
    expected = group_advantages(rewards.double().flatten(), 2)
    torch.testing.assert_close(group_advantages(given, 2).flatten().double(), expected, rtol=1e-5, atol=1e-6)
    assert len(mask) == 0 or no_spread_fraction(given, np.int32(2)) == 1
    labels = actions.masked_fill(~mask, data.draw(st.sampled_from([-100, -1, VOCAB, 2**40])))
    weight = torch.randn(VOCAB, 3, generator=torch.Generator().manual_seed(0))
    for measure in (
        lambda ids, mask: token_statistics(logits, ids, mask=mask),
        lambda ids, mask: linear_statistics(logits[..., :3], weight, ids, mask=mask),
    ):
        found, plain = measure(labels, data.draw(containers(mask, INTEGERS))), measure(actions, mask)
        torch.testing.assert_close(found.logprob, plain.logprob)
        torch.testing.assert_close(found.sensitivity, plain.sensitivity)


@settings(QUIET, max_examples=300)
@given(data=st.data(), batch=batches(), places=st.sets(st.integers(0, 9), min_size=1, max_size=3))
def test_anything_in_any_place_is_answered_or_refused_in_a_sentence(data, batch, places):
    logits, actions, advantages, mask, groups = (
        data.draw(JUNK, label=f"place {place}") if place in places else value for place, value in enumerate(batch)
    )
    temperature, entropy, kl, updates, normaliser = (
        data.draw(JUNK, label=f"place {5 + place}") if 5 + place in places else value
        for place, value in enumerate((1.0, 0.5, 0.1, 2, 0.5))
    )
    attempt(group_advantages, advantages, updates)
    attempt(no_spread_fraction, advantages, updates)
    attempt(linear_statistics, logits, torch.ones(5, VOCAB), actions, mask=mask, temperature=temperature)
    attempt(TokenStatistics, advantages, mask, advantages, updates)
    attempt(BatchStatistics, entropy, kl, tokens=updates)
    tokens = attempt(token_statistics, logits, actions, temperature, mask=mask)
    tokens = attempt(token_statistics, logits, actions, temperature, vocab_size=updates) or tokens
    tokens = token_statistics(batch[0], batch[1]) if tokens is None else tokens
    attempt(batch_statistics, tokens, advantages, mask, groups)
    attempt(tokens.padded, groups)
    control, _ = controllers(data.draw(LAWS), {"type": "sensitivity"})
    before = json.dumps(control.state_dict(), allow_nan=False)
    decision = attempt(control.step, tokens, advantages, mask, groups, kl=kl, updates=updates, momentum=normaliser)
    if decision is None:
        assert json.dumps(control.state_dict(), allow_nan=False) == before
        decision = attempt(control.step_scalar, entropy, kl=kl, updates=updates) or control.step_scalar(0.5)
    attempt(control.measured, updates)
    attempt(control.refine, tokens, tokens, advantages, mask)
    attempt(control.refine_scalar, entropy, kl)
    attempt(decision.thresholds, tokens, advantages)
    attempt(policy_loss, tokens.logprob, tokens, advantages, mask, decision, normaliser=normaliser)
    attempt(policy_loss, logits, tokens, batch[2], batch[3], decision)
    attempt(control.reconfigure, groups)
    attempt(control.load_state_dict, actions)
    json.dumps(control.state_dict(), allow_nan=False)
    json.dumps(decision.metrics(), allow_nan=False)


class AnyUse(RuleBasedStateMachine):
    """A loop in which anything may be called at any time, with good numbers and bad ones in between."""

    def __init__(self):
        super().__init__()
        self.config = parse(ControlConfig, {"target": {"type": "constant", "value": 0.75}})
        self.control = EntropyController(self.config)
        self.decision = None
        self.batch = None

    @rule(data=st.data(), batch=batches(), law=LAWS)
    def step(self, data, batch, law):
        logits, actions, advantages, mask, groups = batch
        tokens = token_statistics(logits, actions)
        groups = data.draw(as_groups(groups) | st.none())
        self.batch = tokens, data.draw(containers(advantages, FLOATS)), data.draw(containers(mask, INTEGERS))
        named = {"updates": data.draw(number(2.0) | st.none()), "delayed": data.draw(st.booleans())}
        decision = attempt(self.control.step, *self.batch, groups=groups, **named)
        assert decision is not None
        self.decision = decision

    @rule(data=st.data(), entropy=st.integers(0, 16).map(lambda n: n / 8))
    def step_without_tensors(self, data, entropy):
        named = {"kl": data.draw(number(0.25)), "reach": data.draw(REACHES), "delayed": data.draw(st.booleans())}
        self.decision = self.control.step_scalar(data.draw(number(entropy)), **named)
        assert self.decision.measurement == entropy

    @rule(data=st.data())
    def refine_and_train(self, data):
        if self.batch is None:
            other = token_statistics(torch.zeros(1, 1, 2), [[0]])
            assert attempt(self.control.refine, other, other, [1], [[1]]) is None or self.decision is not None
            return
        tokens, advantages, mask = self.batch
        now = TokenStatistics(
            tokens.logprob - 0.125,
            (tokens.entropy * data.draw(st.sampled_from([1, 0.9]))).requires_grad_(),
            tokens.sensitivity,
            VOCAB,
        )
        decision = attempt(self.control.refine, now, tokens, advantages, mask)  # of another rollout, or once too often
        if self.decision.batch.contributions is None or (decision or self.decision).batch.contributions is None:
            return
        logprob = now.logprob.clone().requires_grad_()
        decision = decision or self.decision
        given = decision.thresholds(tokens, advantages, logprob) if data.draw(st.booleans()) else None
        loss, _ = policy_loss(logprob, tokens, advantages, mask, decision, now=now, thresholds=given)
        loss.backward()
        assert bool(loss.isfinite())
        assert bool(logprob.grad.isfinite().all())

    @rule(change=JUNK, error=JUNK)
    def refine_without_tensors(self, change, error):
        attempt(self.control.refine_scalar, change, error)

    @rule(responses=JUNK)
    def ask_what_to_measure(self, responses):
        attempt(self.control.measured, responses)

    @rule(law=LAWS, actuator=ACTUATORS, guard=GUARDS, measurement=MEASUREMENTS)
    def reconfigure(self, **parts):
        content = {"target": {"type": "constant", "value": 0.75}, **parts}
        self.config = attempt(parse, ControlConfig, content) or self.config
        self.control.reconfigure(self.config)

    @rule(config=JUNK)
    def reconfigure_with_something_else(self, config):
        assert attempt(self.control.reconfigure, config) is None

    @rule(state=JUNK)
    def save_and_load(self, state):
        attempt(self.control.load_state_dict, state)
        saved = json.dumps(self.control.state_dict(), allow_nan=False)
        self.control = EntropyController(self.config)
        self.control.load_state_dict(json.loads(saved))
        assert json.dumps(self.control.state_dict(), allow_nan=False) == saved
        self.batch = None

    @invariant()
    def holds_plain_numbers_within_its_limits(self):
        json.dumps(self.control.state_dict(), allow_nan=False)
        if self.decision is not None:
            assert self.decision.held or self.decision.reach.low <= self.decision.command <= self.decision.reach.high
            json.dumps(self.decision.metrics(), allow_nan=False)


AnyUse.TestCase.settings = settings(QUIET, max_examples=30, stateful_step_count=20)
test_any_use = AnyUse.TestCase
