"""TRL's other losses and trainers under control, and losses that pass control by."""

import logging

import pytest
import torch

trl = pytest.importorskip("trl")

from entrostat import InputError, TokenStatistics, token_statistics  # noqa: E402
from entrostat.integrations.trl import (  # noqa: E402
    EntropyCallback,
    EntropyControlledGRPOTrainer,
    EntropyControlledRLOOTrainer,
)
from entrostat.integrations.trl.form import Form  # noqa: E402
from entrostat.integrations.trl.trainer import CORRECTION, ENTROPY, SENSITIVITY, EntropyControl, loss_mask  # noqa: E402
from tests.batches import random_batch  # noqa: E402
from tests.integrations.trl_runs import ON_POLICY, control, rows, small, trained  # noqa: E402

torch.set_num_threads(1)
HIGH = control(law={"type": "manual", "command": 1.0}, actuator={"type": "sensitivity"})
QUICK = {"max_steps": 2, "learning_rate": 1e-2}


class Rewritten(trl.GRPOTrainer):
    """As Unsloth leaves it: one function that scores and sums up by itself."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return -(inputs["advantages"][:, None] * scores(model, inputs)).mean()


class Deaf(trl.GRPOTrainer):
    """Scores as TRL does, and clips by the numbers of the configuration."""

    def _compute_loss(self, model, inputs):
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        length = inputs["completion_ids"].shape[1]
        logps = self._get_per_token_logps_and_entropies(model, ids, mask, length, compute_entropy=True)[0]
        return -(inputs["advantages"][:, None] * (logps - logps.detach()).exp().clamp(0.8, 1.2)).mean()


class Silent(trl.GRPOTrainer):
    """Shows the entropy, and gives it no gradient."""

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        logps, entropies, *rest = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return logps, None if entropies is None else entropies.detach(), *rest


class Corrected(trl.GRPOTrainer):
    """With TRL's correction for vLLM's probabilities, which masks three responses of four."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        kept = torch.arange(len(batch["completion_ids"])) % 4 == 0
        return batch | {CORRECTION: kept[:, None].float()}

    def _compute_loss(self, model, inputs):
        self.use_vllm = True  # for the loss alone: there is no vLLM to generate
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self.use_vllm = False


def scores(model, inputs):
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    length = inputs["completion_ids"].shape[1]
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -length - 1 : -1]
    return token_statistics(logits, inputs["completion_ids"]).logprob


@pytest.mark.parametrize("setting", [{}, ON_POLICY], ids=["off policy", "on policy"])
@pytest.mark.parametrize("host", [Rewritten, Deaf])
def test_a_loss_that_does_not_read_its_thresholds_stops_the_run(tmp_path, host, setting):
    kind = type("Controlled", (EntropyControl, host), {})
    with pytest.raises(InputError, match=r"does not read the thresholds that it was handed"):
        trained(tmp_path, HIGH, kind=kind, **QUICK | setting)


class Logged(Deaf):
    """The same, with an entropy in its log."""

    def log(self, logs, *args, **kwargs):
        super().log(logs | {"entropy": 0.5} if "loss" in logs else logs, *args, **kwargs)


@pytest.mark.parametrize(("host", "reason"), [(Logged, "does not read the thresholds"), (Rewritten, "has no entropy")])
def test_the_callback_stops_a_run_that_it_does_not_reach(tmp_path, host, reason):
    run = small(tmp_path, None, kind=host, **QUICK)
    run.add_callback(EntropyCallback(run, control(actuator={"type": "split_range"})))
    with pytest.raises(InputError, match=reason):
        run.train()


# the oldest TRL has none; `make hosts` runs it
@pytest.mark.skipif(not hasattr(trl.GRPOConfig, "entropy_coef"), reason="this TRL has no entropy bonus")
@pytest.mark.parametrize("setting", [{}, ON_POLICY], ids=["off policy", "on policy"])
def test_a_loss_without_the_entropy_that_a_bonus_weighs_stops_the_run(tmp_path, setting):
    kind = type("Controlled", (EntropyControl, Silent), {})
    acting = control(law={"type": "manual", "command": 1.0}, actuator={"type": "balanced_bonus"})
    with pytest.raises(InputError, match="gives the policy's entropy no gradient under the bonus"):
        trained(tmp_path, acting, kind=kind, **QUICK | setting)


def test_a_loss_that_cuts_other_tokens_than_it_was_asked_to_stops_the_run(tmp_path):
    class Swapped(trl.GRPOTrainer):
        def _compute_loss(self, model, inputs):
            return super()._compute_loss(model, inputs | {"advantages": -inputs["advantages"]})

    kind = type("Controlled", (EntropyControl, Swapped), {})
    with pytest.raises(InputError, match=r"its thresholds ask for"):
        trained(tmp_path, HIGH, kind=kind, **QUICK)


def test_the_cap_on_the_ratio_itself_stays_trls(tmp_path):
    static = control(law={"type": "manual"}, actuator={"type": "static"})
    settings = {"delta": 1.25, "num_iterations": 2, "learning_rate": 3e-2, "max_steps": 4}
    theirs, ours = trained(tmp_path / "a", None, **settings), trained(tmp_path / "b", static, **settings)
    for left, right in zip(rows(ours, "loss", "grad_norm"), rows(theirs, "loss", "grad_norm"), strict=True):
        assert left == pytest.approx(right, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("loss_type", ["cispo", "sapo"])
def test_a_loss_without_a_clamp_drops_the_tokens_that_are_cut(tmp_path, loss_type):
    epsilon = {"epsilon_high": 5.0} if loss_type == "cispo" else {}
    run = trained(tmp_path, HIGH, loss_type=loss_type, **QUICK | epsilon)
    batch = run._buffered_inputs[0]
    logprob = batch["old_per_token_logps"]
    kept = handed(run, batch, logprob)
    mask, a = loss_mask(batch), batch["advantages"][:, None]
    lowers = (a * batch[SENSITIVITY] > 0) & mask
    raises = (a * batch[SENSITIVITY] < 0) & mask
    assert lowers.any()
    assert (kept[lowers] == 0).all()  # command 1: no token that lowers entropy keeps its gradient
    assert (kept[raises] != 0).all()


def handed(run, batch, logprob):
    """The advantages that the loss gets."""
    tokens = TokenStatistics(logprob, batch[ENTROPY], batch[SENSITIVITY], run._vocab_size)
    inputs = dict(batch)
    run._hand_over(run.entropy_loop.decision, tokens, inputs, logprob, batch[ENTROPY])
    return inputs["advantages"].detach()


def test_a_ratio_of_whole_responses_has_one_threshold_by_their_own_sensitivity(tmp_path):
    run = trained(tmp_path, HIGH, importance_sampling_level="sequence", loss_type="grpo", **QUICK)
    batch = run._buffered_inputs[0]
    assert (batch[SENSITIVITY] == batch[SENSITIVITY][:, :1]).all()
    assert rows(run, "clip_ratio/region_mean")[0][0] > 0.1


def test_a_responses_sensitivity_is_the_mean_of_its_tokens():
    batch = random_batch(0)
    levelled = Form(sequences=True).levelled(batch.tokens, batch.mask)
    for row, (s, mask) in enumerate(zip(batch.tokens.sensitivity, batch.mask.bool(), strict=True)):
        torch.testing.assert_close(levelled.sensitivity[row], s[mask].mean().expand(len(s)))


def test_rloo_is_controlled_by_whole_responses(tmp_path):
    run = trained(tmp_path, HIGH, kind=EntropyControlledRLOOTrainer, configuration=trl.RLOOConfig, beta=0.0, **QUICK)
    (first, *_) = rows(run, "clip_ratio/region_mean", "controller/command", "controller/command_high")
    assert first[0] > 0.1
    assert first[1] == min(1.0, first[2])


def test_without_control_rloo_is_trls(tmp_path):
    settings = {"configuration": trl.RLOOConfig, "beta": 0.0} | QUICK
    theirs = trained(tmp_path / "a", None, kind=trl.RLOOTrainer, **settings)
    ours = trained(tmp_path / "b", None, kind=EntropyControlledRLOOTrainer, **settings)
    assert rows(ours, "loss", "grad_norm") == rows(theirs, "loss", "grad_norm")


def test_gmpo_is_a_second_base(tmp_path):
    gmpo = pytest.importorskip("trl.experimental.gmpo")
    kind = type("Controlled", (EntropyControlledGRPOTrainer, gmpo.GMPOTrainer), {})
    run = trained(tmp_path, HIGH, kind=kind, configuration=gmpo.GMPOConfig, **QUICK)
    assert run._form == Form(logarithmic=True, divides=True)
    assert rows(run, "clip_ratio/region_mean")[0][0] > 0.1


def test_tokens_that_the_loss_drops_leave_the_contributions(tmp_path):
    run = trained(tmp_path, HIGH, top_entropy_quantile=0.2, **QUICK)
    batch = run._buffered_inputs[0]
    mask, pulls = loss_mask(batch), run._pulls(batch)
    kept = run.get_high_entropy_mask(batch[ENTROPY], mask, 0.8)
    assert 0.1 < kept[mask].float().mean() < 0.35
    assert (pulls[mask & ~kept] == 0).all()
    assert torch.equal(pulls[kept], batch["advantages"][:, None].expand_as(pulls)[kept])
    assert run.entropy_loop.decision.batch.no_advantage > 0.6


@pytest.mark.parametrize("setting", [{}, ON_POLICY], ids=["off policy", "on policy"])
def test_responses_that_the_correction_for_vllms_probabilities_masks_leave_the_contributions(tmp_path, setting):
    kind = type("Controlled", (EntropyControl, Corrected), {})
    run = trained(tmp_path, HIGH, kind=kind, **QUICK | setting)
    batch = run._buffered_inputs[0]
    masked, pulls = batch[CORRECTION][:, 0] == 0, run._pulls(batch)
    assert (pulls[masked] == 0).all()
    assert torch.equal(pulls[~masked], batch["advantages"][~masked, None].expand_as(pulls[~masked]))
    assert run.entropy_loop.decision.batch.no_advantage > 0.7


def test_single_tokens_count_by_their_own_correction_and_not_where_the_loss_has_none(tmp_path):
    run = small(tmp_path, HIGH)
    mask, advantages = torch.ones(2, 3), torch.tensor([1.0, -2.0])
    weights = torch.tensor([[0.5, 0.0, 1.0], [2.0, 1.0, 0.0]])
    batch = {"completion_mask": mask, "advantages": advantages, CORRECTION: weights}
    assert torch.equal(run._pulls(batch), advantages[:, None] * weights)
    run._form = Form(logarithmic=True)  # GMPO's
    assert torch.equal(run._pulls(batch), advantages)


def test_truncated_sampling_is_said_in_figures(tmp_path, caplog):
    run = small(tmp_path, HIGH, top_p=0.7, **QUICK)
    with caplog.at_level(logging.WARNING, "entrostat"):
        run.train()
    assert caplog.text.count("nats of it are sampled") == 1
