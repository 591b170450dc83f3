"""The custom losses for slime and miles, called as slime 0.3.1 and miles 31f1ca9 call them; both need GPUs."""

import sys
from argparse import Namespace

import pytest
import torch
import yaml

from entrostat import EntropyController, InputError, token_statistics
from entrostat.integrations import miles, slime
from entrostat.integrations.shared import packed_logits
from entrostat.integrations.shared.environment import VARIABLE
from entrostat.integrations.shared.late import LateLoop
from tests.integrations.packed_like import ARGS, deaf, miles_modules, slime_modules

VOCAB, TOTALS, LENGTHS = 16, [5, 8, 4, 9], [3, 5, 2, 6]
CONTROL = {
    "target": {"type": "linear", "start": 2.0, "end": 1.0, "time": "run"},
    "law": {"type": "manual", "command": -1.0},
}


class Run:
    """A policy of one table of logits; a step is one microbatch, then the optimizer."""

    def __init__(self, host, **settings):
        self.host = host
        g = torch.Generator().manual_seed(0)
        self.args = Namespace(**vars(ARGS) | settings)
        self.logits = torch.randn(1, sum(TOTALS), VOCAB, generator=g).requires_grad_()
        tokens = [torch.randint(VOCAB, (total,), generator=g) for total in TOTALS]
        a = torch.randn(len(LENGTHS), generator=g)
        self.batch = {
            "unconcat_tokens": tokens,
            "total_lengths": TOTALS,
            "response_lengths": LENGTHS,
            "loss_masks": [torch.ones(length, dtype=torch.int) for length in LENGTHS],
            "advantages": [value.expand(length) for value, length in zip(a, LENGTHS, strict=True)],
        }
        ends = torch.tensor(TOTALS).cumsum(0)
        self.rows = torch.cat([torch.arange(end - length, end) - 1 for end, length in zip(ends, LENGTHS, strict=True)])
        self.actions = torch.cat([row[-length:] for row, length in zip(tokens, LENGTHS, strict=True)])
        self.batch["log_probs"] = list(self.tokens().logprob.detach().split(LENGTHS))
        self.optimizer = torch.optim.SGD([self.logits], lr=1e-3)

    def tokens(self):
        return token_statistics(self.logits[0, self.rows], self.actions)

    def step(self):
        """Which response tokens have a gradient, and what the host logs."""
        whole = self.args, self.batch, self.logits, lambda x: sum(map(torch.mean, x.split(LENGTHS)))
        loss, metrics = self.host.loss(*whole)
        loss.backward()
        moved = self.logits.grad[0, self.rows].abs().sum(1) > 0
        self.optimizer.step()
        self.optimizer.zero_grad()
        count = sum(LENGTHS) if self.args.calculate_per_token_loss else len(LENGTHS)
        return moved, {name: float(value) / count for name, value in metrics.items()}


@pytest.fixture
def stands(monkeypatch, tmp_path):
    """Puts functions in the place of the host's."""
    (tmp_path / "control.yaml").write_text(yaml.safe_dump(CONTROL))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "control.yaml"))

    def stand(modules):
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    yield stand
    for host in MODULES:
        if host._loop.cache_info().currsize:
            host._loop(ARGS.train_iters).close()
        host._loop.cache_clear()
    packed_logits.logged.clear()


MODULES = {slime: slime_modules, miles: miles_modules}


@pytest.fixture(params=MODULES, ids=["slime", "miles"])
def host(request, stands):
    stands(MODULES[request.param]())
    return request.param


def test_the_decision_on_a_step_acts_on_the_next_and_cuts_what_raises_entropy(host):
    run = Run(host)
    assert run.step()[0].all()
    sensitivity = run.tokens().sensitivity
    moved, _ = run.step()
    assert torch.equal(moved, torch.cat(run.batch["advantages"]) * sensitivity > 0)


@pytest.mark.parametrize("per_token", [False, True])
def test_the_host_logs_the_decision_in_force_and_a_curve_in_shares_of_its_iterations(host, per_token):
    run = Run(host, calculate_per_token_loss=per_token)
    assert "controller/setpoint" not in run.step()[1]
    run.step()
    _, logged = run.step()
    assert logged["controller/command"] == pytest.approx(-1.0)
    assert logged["controller/setpoint"] == pytest.approx(2.0 - 1.0 / ARGS.train_iters)


@pytest.mark.parametrize("per_token", [False, True])
def test_a_response_counts_as_one_where_the_loss_is_a_mean_over_responses(host, monkeypatch, per_token):
    given, plain = [], EntropyController.step
    monkeypatch.setattr(
        EntropyController,
        "step",
        lambda self, tokens, a, *rest, **more: given.append(a) or plain(self, tokens, a, *rest, **more),
    )
    run = Run(host, calculate_per_token_loss=per_token)
    run.step()
    lengths = torch.tensor(LENGTHS)
    weights = torch.ones(len(LENGTHS)) if per_token else lengths.float().mean() / lengths
    first = torch.stack([a[0] for a in run.batch["advantages"]])
    torch.testing.assert_close(given[0][:, 0], first * weights)


def test_a_policy_loss_that_does_not_read_its_thresholds_is_stopped(host, stands):
    stands(MODULES[host](deaf))
    run = Run(host)
    run.step()
    with pytest.raises(InputError, match="policy_loss_function does not read the thresholds"):
        run.step()


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({"advantage_estimator": "gspo"}, "--advantage-estimator grpo"), ({"recompute_loss_function": True}, "leave it")],
)
def test_a_setting_that_hides_the_ratios_of_tokens_is_refused(host, settings, remedy):
    with pytest.raises(InputError, match=remedy):
        Run(host, **settings).step()


def test_a_truncated_softmax_is_refused_where_ratios_are_of_it(stands):
    stands(slime_modules())
    with pytest.raises(InputError, match=r"--rollout-top-p 1\.0"):
        Run(slime, rollout_top_p=0.9).step()


def test_responses_split_over_ranks_are_refused(host, stands):
    stands(MODULES[host](context_ranks=2))
    with pytest.raises(InputError, match="--context-parallel-size 1"):
        Run(host).step()


def test_without_a_pass_that_scores_the_rollout_ratios_are_1(stands, monkeypatch):
    seen = []
    monkeypatch.setattr(LateLoop, "thresholds", lambda self, now, tokens, *rest: seen.append((now, tokens.logprob)))
    stands(miles_modules())
    run = Run(miles, skip_actor_forward_only=True)
    run.batch["log_probs"] = [x - 1 for x in run.batch["log_probs"]]
    run.step()
    assert torch.equal(*seen[0])
