"""The loss for SkyRL, called as the worker of SkyRL 0.3.0 (a956457) calls it; SkyRL itself needs GPUs."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import yaml

from entrostat import InputError, token_statistics
from entrostat.integrations.shared import hosts
from entrostat.integrations.shared.environment import VARIABLE

VOCAB, PROMPT, ACTIONS = 16, 3, 6
NAME = "entrostat.integrations.skyrl"


class HFModelWrapper(torch.nn.Module):
    """A policy of one table of logits that answers as SkyRL's does."""

    def __init__(self, sequence_parallel_size=1):
        super().__init__()
        text = SimpleNamespace(vocab_size=VOCAB)
        self.sequence_parallel_size = sequence_parallel_size
        self.model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))
        logits = torch.randn(8, PROMPT + ACTIONS, VOCAB, generator=torch.Generator().manual_seed(0))
        self.logits = torch.nn.Parameter(logits)

    def tokens(self, sequences):
        return token_statistics(self.logits, torch.roll(sequences, -1, 1))

    def forward(self, sequences, num_actions, *, return_output=False, compute_entropy=False):
        tokens = self.tokens(sequences)
        scored = tokens.logprob[:, -num_actions - 1 : -1]
        return (scored, {"entropy": tokens.entropy}) if return_output else scored


def ppo_policy_loss(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
    """SkyRL's with dual_clip and corrections left out."""
    assert config.policy_loss_type in ("regular", "dual_clip")
    ratio = (log_probs - old_log_probs).exp()
    clamped = ratio.clamp(1 - config.eps_clip_low, 1 + config.eps_clip_high)
    return -(torch.min(ratio * advantages, clamped * advantages) * loss_mask).sum(), {"clip_ratio": 0.0}


def deaf(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
    return -((log_probs - old_log_probs).exp() * advantages * loss_mask).sum(), {}


class Run:
    """A step is the worker's: the model, the registered loss, backward, the optimizer."""

    def __init__(self, loss, model):
        g = torch.Generator().manual_seed(1)
        self.loss, self.model = loss, model
        self.config = SimpleNamespace(policy_loss_type="entrostat", eps_clip_low=0.2, eps_clip_high=0.2)
        self.sequences = torch.randint(VOCAB, (8, PROMPT + ACTIONS), generator=g)
        self.advantages = torch.randn(8, 1, generator=g).expand(8, ACTIONS) / 48  # as its reduction scales them
        self.old = self.now().logprob.detach()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)

    def now(self):
        tokens = self.model.tokens(self.sequences)
        return SimpleNamespace(logprob=tokens.logprob[:, PROMPT - 1 : -1], entropy=tokens.entropy[:, PROMPT - 1 : -1])

    def step(self):
        """Which actions have a gradient, and what the loss logs."""
        with torch.no_grad():
            self.model(self.sequences, num_actions=ACTIONS)  # scores the rollout
        scored, _ = self.model(self.sequences, ACTIONS, return_output=True, compute_entropy=True)
        words = {"config": self.config, "loss_mask": torch.ones(8, ACTIONS), "rollout_logprobs": None}
        loss, metrics = self.loss(scored, self.old, self.advantages, **words)
        loss.backward()
        moved = self.model.logits.grad[:, PROMPT - 1 : -1].abs().sum(-1) > 0
        self.optimizer.step()
        self.optimizer.zero_grad()
        return moved, metrics


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """A function that registers the loss over a clipped loss of the host's."""
    (tmp_path / "control.yaml").write_text(
        yaml.safe_dump({"target": {"type": "constant", "value": 1.0}, "law": {"type": "manual", "command": 1.0}})
    )
    monkeypatch.setenv(VARIABLE, str(tmp_path / "control.yaml"))
    made = []

    def register(clipped=ppo_policy_loss):
        losses = {}
        wrapper = ModuleType("skyrl.backends.skyrl_train.workers.model_wrapper")
        wrapper.HFModelWrapper = type("HFModelWrapper", (HFModelWrapper,), {"forward": HFModelWrapper.forward})
        utils = ModuleType("skyrl.backends.skyrl_train.utils.ppo_utils")
        utils.ppo_policy_loss, utils.PolicyLossRegistry = clipped, SimpleNamespace(register=losses.__setitem__)
        for module in (wrapper, utils):
            parts = module.__name__.split(".")
            for depth in range(1, len(parts)):
                parent = ".".join(parts[:depth])
                monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent) or ModuleType(parent))
            monkeypatch.setitem(sys.modules, module.__name__, module)
            setattr(sys.modules[parent], parts[-1], module)
        monkeypatch.setattr(hosts, "version", {"skyrl": "0.3.0"}.__getitem__)
        monkeypatch.delitem(sys.modules, NAME, raising=False)
        made.append(importlib.import_module(NAME))
        return losses["entrostat"], wrapper.HFModelWrapper

    yield register
    for module in made:
        if module._loop.cache_info().currsize:
            module._loop().close()
        sys.modules.pop(NAME, None)


def test_the_decision_on_a_step_acts_on_the_next_and_cuts_what_lowers_entropy(registered):
    loss, wrapper = registered()
    run = Run(loss, wrapper())
    moved, logged = run.step()
    assert moved.all()
    assert "controller/command" not in logged
    now = run.now()
    approximate = now.logprob.exp() * (now.logprob + now.entropy)
    moved, logged = run.step()
    assert torch.equal(moved, run.advantages * approximate < 0)
    assert logged["controller/command"] == pytest.approx(1.0)
    assert run.config.eps_clip_low == 0.2


def test_a_loss_that_does_not_read_its_thresholds_is_stopped(registered):
    loss, wrapper = registered(deaf)
    run = Run(loss, wrapper())
    run.step()
    with pytest.raises(InputError, match="ppo_policy_loss does not read the thresholds"):
        run.step()


def test_a_worker_whose_model_shows_no_entropy_is_refused(registered):
    loss, _ = registered()
    with pytest.raises(InputError, match="whose model is no HFModelWrapper does not read"):
        Run(loss, HFModelWrapper()).step()


def test_ranks_that_share_a_sequence_are_refused(registered):
    loss, wrapper = registered()
    with pytest.raises(InputError, match="sequence_parallel_size=1"):
        Run(loss, wrapper(sequence_parallel_size=2)).step()


def test_a_missing_skyrl_is_one_sentence():
    with pytest.raises(InputError, match=r"skyrl is not installed; install it with `pip install 'skyrl>=0\.3,<0\.4'`"):
        importlib.import_module(NAME)
