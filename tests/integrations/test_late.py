"""Hosts that show their loss alone: measured in its own passes, decided after the optimizer's step."""

import functools
import json
import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch

from entrostat import InputError, token_statistics
from entrostat.integrations import areal as areal_module
from entrostat.integrations.areal import LOSS, controlled, install
from entrostat.integrations.shared import hosts, late
from entrostat.integrations.shared.late import STATE, LateLoop
from tests.batches import controller

VOCAB, LENGTHS = 16, [3, 5, 2, 6]
WARNING = "the measured policy is not the one that sampled"
CONTROL = {"law": {"type": "manual", "command": 1.0}}


def grpo_loss_fn(logprobs, entropy, input_data, eps_clip, eps_clip_higher, **_):
    """The clipped part of AReaL's, by its names: the ratio is clamped between two settings."""
    mask = input_data["loss_mask"].bool()
    ratio = torch.where(mask, (logprobs - input_data["prox_logp"]).exp(), 0)
    upper = 1.0 + (eps_clip if eps_clip_higher is None else eps_clip_higher)
    a = input_data["advantages"]
    losses = torch.max(-a * ratio, -a * torch.clamp(ratio, 1.0 - eps_clip, upper))
    return torch.where(mask, losses, 0).sum() / mask.sum()


def deaf(logprobs, entropy, input_data, eps_clip, eps_clip_higher, **_):
    return -(input_data["advantages"] * (logprobs - input_data["prox_logp"]).exp()).mean()


class Once(torch.autograd.Function):
    """A compiled loss gives up the buffers of its backward pass, so that its graph can be walked once."""

    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        assert not torch._C._autograd._get_current_graph_task_keep_graph()
        return gradient


def compiled(*args, **settings):
    return Once.apply(grpo_loss_fn(*args, **settings))


class Run:
    """A policy of one table of logits; a step is AReaL's: microbatches, packed, then the optimizer."""

    def __init__(self, loss_fn=grpo_loss_fn, **content):
        g = torch.Generator().manual_seed(0)
        self.logits = torch.randn(sum(LENGTHS), VOCAB, generator=g).requires_grad_()
        self.actions = torch.randint(VOCAB, (sum(LENGTHS),), generator=g)
        a = torch.randn(len(LENGTHS), generator=g).repeat_interleave(torch.tensor(LENGTHS))
        self.data = {
            "prox_logp": self.tokens().logprob.detach(),
            "advantages": a,
            "loss_mask": torch.ones_like(a),
            "cu_seqlens": torch.tensor([0, *LENGTHS]).cumsum(0),
        }
        self.metrics = []
        self.loop = LateLoop(controller(**CONTROL | content), self.metrics.append, LOSS)
        self.loss_fn = controlled(loss_fn, self.loop, VOCAB)
        self.optimizer = torch.optim.SGD([self.logits], lr=1e-3)

    def tokens(self):
        return token_statistics(self.logits, self.actions)

    def step(self, **settings):
        now = self.tokens()
        loss = self.loss_fn(
            now.logprob, now.entropy, self.data, **{"eps_clip": 0.2, "eps_clip_higher": None} | settings
        )
        loss.backward()
        gradient = self.logits.grad.clone()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return gradient.abs().sum(1) > 0


@pytest.fixture
def made():
    runs = []

    def make(*args, **content):
        runs.append(Run(*args, **content))
        return runs[-1]

    yield make
    for run in runs:
        run.loop.close()


def test_the_decision_on_a_step_acts_on_the_next_and_cuts_what_lowers_entropy(made):
    run = made()
    assert run.step().all()
    now = run.tokens()
    approximate = now.logprob.exp() * (now.logprob + now.entropy)
    moved = run.step()
    assert torch.equal(moved, run.data["advantages"] * approximate < 0)  # command 1: nothing that lowers it is left


def test_one_step_of_the_controller_is_one_optimizer_step_whatever_the_microbatches(made):
    run = made()
    now = run.tokens()
    for _ in range(2):
        run.loss_fn(now.logprob, now.entropy, run.data, eps_clip=0.2, eps_clip_higher=None)
    run.step()
    assert [row["controller/command"] for row in run.metrics] == [1.0]
    assert run.loop.controller.state_dict()["step"] == 1


def test_log_probabilities_of_an_earlier_policy_are_not_held_against_the_entropy_of_this_one(made, caplog):
    run = made()
    run.data["prox_logp"] = torch.full_like(run.data["prox_logp"], -math.log(VOCAB))  # of the policy that drew them
    with torch.no_grad():
        run.logits *= 5
    tokens = replace(run.tokens().detach(), logprob=run.data["prox_logp"])[None]
    for _ in range(40):
        run.step()
    assert WARNING not in caplog.text
    assert "actor/entropy_sampled" not in run.metrics[-1]
    elsewhere = controller(**CONTROL)
    for _ in range(40):
        elsewhere.step(tokens, run.data["advantages"][None], run.data["loss_mask"][None])
    assert caplog.text.count(WARNING) == 1


def test_a_host_that_does_not_read_its_thresholds_is_stopped(made):
    run = made(deaf)
    run.step()
    with pytest.raises(InputError, match="grpo_loss_fn does not read the thresholds"):
        run.step()


def test_the_proof_leaves_a_compiled_loss_its_one_backward_pass(made):
    run = made(compiled)
    run.step()
    assert not run.step().all()


def test_log_probabilities_that_the_loss_makes_up_itself_are_refused(made):
    run = made()
    run.data["prox_logp"] = None
    with pytest.raises(InputError, match=r"actor\.prox_logp_method=recompute"):
        run.step(prox_logp_method="loglinear")


@pytest.fixture
def areal(made, tmp_path, monkeypatch):
    """A run of AReaL's, its `PPOActor`, and what it logs."""
    run, logged = made(), {}
    run.loop.close()

    class PPOActor:
        def __init__(self):
            self.engine = SimpleNamespace(data_parallel_group=None, data_parallel_rank=0)

        def ppo_update(self, data):
            run.loss_fn = functools.partial(host.grpo_loss_fn, c_clip=None)
            return run.step()

    names = ("areal", "areal.trainer", "areal.trainer.ppo", "areal.trainer.ppo.actor", "areal.utils")
    found = {name: ModuleType(name) for name in names}
    host = found["areal.trainer.ppo.actor"]
    host.PPOActor, host.grpo_loss_fn = PPOActor, grpo_loss_fn
    found["areal.trainer.ppo"].actor, found["areal.trainer"].ppo = host, found["areal.trainer.ppo"]
    found["areal"].trainer = found["areal.trainer"]
    found["areal.utils"].stats_tracker = SimpleNamespace(scalar=lambda **numbers: logged.update(numbers))
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(hosts, "version", {"areal": "1.0.4"}.__getitem__)
    (tmp_path / "control.yaml").write_text(
        "target: {type: linear, start: 2.0, end: 1.0, time: run}\nlaw: {type: manual, command: 1.0}\n"
    )
    monkeypatch.setenv("ENTROSTAT_CONTROL", str(tmp_path / "control.yaml"))
    loops = []
    monkeypatch.setattr(areal_module, "LateLoop", lambda *given: loops.append(LateLoop(*given)) or loops[-1])
    yield SimpleNamespace(PPOActor=PPOActor, logged=logged, run=run)
    for loop in loops:
        loop.close()


def test_areals_update_takes_the_controlled_loss_over_its_engines_group(areal):
    install(VOCAB, total_steps=4)
    actor = areal.PPOActor()
    assert actor.ppo_update([]).all()
    assert not actor.ppo_update([]).all()
    assert areal.logged["controller/setpoint"] == pytest.approx(1.75)


def test_an_update_of_areals_that_takes_another_loss_stops_the_run(areal):
    def ppo_update(actor, data):
        areal.run.loss_fn = functools.partial(grpo_loss_fn, c_clip=None)
        return areal.run.step()

    areal.PPOActor.ppo_update = ppo_update
    install(VOCAB, total_steps=4)
    with pytest.raises(InputError, match="does not read the thresholds that it was handed"):
        areal.PPOActor().ppo_update([])


def test_a_missing_areal_is_one_sentence():
    with pytest.raises(InputError, match=r"areal is not installed; install it with `pip install 'areal>=1\.0\.4"):
        install(VOCAB)


def test_an_optimizer_whose_steps_are_not_seen_stops_the_run(made, monkeypatch):
    monkeypatch.setattr(late, "LOSSES", 3)
    run = made()
    for _ in range(4):
        run.step()
    run.loop.close()
    for _ in range(3):
        run.step()
    with pytest.raises(InputError, match=r"was taken 3 times without a step of a torch\.optim\.Optimizer, .*; use an"):
        run.step()


@pytest.mark.parametrize(
    "settings", [{"use_sapo_loss": True}, {"use_cispo_loss": True}, {"importance_sampling_level": "sequence"}]
)
def test_a_loss_without_a_ratio_of_single_tokens_is_refused(made, settings):
    with pytest.raises(InputError, match="importance_sampling_level=token"):
        made().step(**settings)


def test_an_actuator_that_weighs_tokens_is_refused(made):
    with pytest.raises(InputError, match="weighs tokens"):
        made(actuator={"type": "clip_cov"}, law={"type": "manual"})


def test_the_state_is_kept_in_a_file_and_gone_on_from(made, tmp_path, monkeypatch):
    monkeypatch.setenv(STATE, str(tmp_path / "state.json"))
    run = made()
    run.step()
    assert json.loads((tmp_path / "state.json").read_text()) == run.loop.controller.state_dict()
    assert made().loop.controller.state_dict()["step"] == 1
