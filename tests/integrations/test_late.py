"""Hosts that show their loss alone: measured in its own passes, decided after the optimizer's step."""

import json

import pytest
import torch

from entrostat import InputError, token_statistics
from entrostat.integrations.areal import controlled
from entrostat.integrations.late import STATE, LateLoop
from tests.batches import controller

VOCAB, LENGTHS = 16, [3, 5, 2, 6]
CONTROL = {"law": {"type": "manual", "command": 1.0}}


def grpo_loss_fn(logprobs, entropy, input_data, eps_clip, eps_clip_higher, **_):
    """The clipped part of AReaL's, by its names: the ratio is clamped between two settings."""
    mask = input_data["loss_mask"].bool()
    ratio = torch.where(mask, (logprobs - input_data["logprobs"]).exp(), 0)
    upper = 1.0 + (eps_clip if eps_clip_higher is None else eps_clip_higher)
    a = input_data["advantages"]
    losses = torch.max(-a * ratio, -a * torch.clamp(ratio, 1.0 - eps_clip, upper))
    return torch.where(mask, losses, 0).sum() / mask.sum()


def deaf(logprobs, entropy, input_data, eps_clip, eps_clip_higher, **_):
    return -(input_data["advantages"] * (logprobs - input_data["logprobs"]).exp()).mean()


class Run:
    """A policy of one table of logits; a step is AReaL's: microbatches, packed, then the optimizer."""

    def __init__(self, loss_fn=grpo_loss_fn, **content):
        g = torch.Generator().manual_seed(0)
        self.logits = torch.randn(sum(LENGTHS), VOCAB, generator=g).requires_grad_()
        self.actions = torch.randint(VOCAB, (sum(LENGTHS),), generator=g)
        a = torch.randn(len(LENGTHS), generator=g).repeat_interleave(torch.tensor(LENGTHS))
        self.data = {
            "logprobs": self.tokens().logprob.detach(),
            "advantages": a,
            "loss_mask": torch.ones_like(a),
            "cu_seqlens": torch.tensor([0, *LENGTHS]).cumsum(0),
        }
        self.metrics = []
        self.loop = LateLoop(controller(**CONTROL | content), self.metrics.append)
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


def test_a_host_that_does_not_read_its_thresholds_is_stopped(made):
    run = made(deaf)
    run.step()
    with pytest.raises(InputError, match="grpo_loss_fn does not read the thresholds"):
        run.step()


@pytest.mark.parametrize("settings", [{"use_sapo_loss": True}, {"importance_sampling_level": "sequence"}])
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
