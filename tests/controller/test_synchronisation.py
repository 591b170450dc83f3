"""How often the host has to wait for the device: once a step, for the sums of the batch."""

from typing import get_args

import pytest
import torch
from torch.overrides import TorchFunctionMode

from entrostat import policy_loss
from entrostat.actuators import AnyActuator
from entrostat.loss import threshold_sums
from entrostat.measure.tensors import per_token
from tests.batches import controller, random_batch

WAITS = {"item", "tolist", "cpu", "__bool__", "__int__", "__float__", "__index__", "is_nonzero", "nonzero"} | {
    *("unique", "_unique2", "_return_output", "_return_inverse", "unique_consecutive", "masked_select", "equal"),
    *("allclose", "bincount", "histc", "quantile"),
}
ACTUATORS = ["static", "split_range", "region", "sensitivity"]


class Waits(TorchFunctionMode):
    """Names of the calls whose result a host can only have from a device that has finished."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        by_mask = name == "__getitem__" and getattr(args[1], "dtype", None) == torch.bool
        if name in WAITS or by_mask:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("actuator", ACTUATORS)
def test_a_step_waits_for_the_device_once_and_a_minibatch_never(actuator):
    control, batch = controller(law={"type": "pid"}, actuator={"type": actuator}), random_batch(3)
    part = batch.rows(slice(0, 8))
    for _ in range(2):
        with Waits() as step:
            decision = control.step(batch.tokens, batch.advantages, batch.mask, batch.groups)
        with Waits() as minibatch:
            decision = control.refine(part.tokens, part.tokens, part.advantages, part.mask)
            policy_loss(part.tokens.logprob, part.tokens, part.advantages, part.mask, decision)
            thresholds = decision.thresholds(batch.tokens, per_token(batch.advantages, batch.tokens.logprob))
            threshold_sums(thresholds, batch.tokens, batch.advantages, batch.mask)
        assert step.names == ["cpu"]
        assert minibatch.names == []


def types():
    """Of all actuators."""
    return [kind.model_fields["type"].default for kind in get_args(get_args(AnyActuator)[0])]


@pytest.mark.parametrize("actuator", types())
def test_no_actuators_step_or_thresholds_wait_more_than_once(actuator):
    options = {"regions": ["e1"]} if actuator == "regions_only" else {}
    control, batch = controller(actuator={"type": actuator} | options), random_batch(3)
    with Waits() as waits:
        decision = control.step(*batch)
        decision.thresholds(batch.tokens, batch.advantages[:, None].expand(batch.mask.shape))
    assert waits.names == ["cpu"]


def test_the_inner_loop_waits_once_a_minibatch_for_its_reading():
    control, batch = controller(law={"type": "adaptive"}), random_batch(3)
    part = batch.rows(slice(0, 8))
    control.step(*batch)
    with Waits() as waits:
        control.refine(part.tokens, part.tokens, part.advantages, part.mask)
    assert waits.names == ["cpu"]


def test_what_a_host_waits_for_is_counted():
    x = torch.arange(3)
    with Waits() as waits:
        float(x.sum()), bool(x.any()), x.tolist(), torch.unique(x), x[x > 1], x.max().item()
    assert len(waits.names) >= 6


def test_groups_may_be_any_integers_in_any_order():
    batch = random_batch(5)
    names = torch.randint(-(2**40), 2**40, (8,), generator=torch.Generator().manual_seed(2))[batch.groups]
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    plain = controller().step(*batch).batch
    shuffled = controller().step(batch.tokens[order], batch.advantages[order], batch.mask[order], names[order]).batch
    assert shuffled.standard_error == pytest.approx(plain.standard_error, rel=1e-12)
