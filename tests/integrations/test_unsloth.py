"""Unsloth's loss, called as Unsloth calls it; Unsloth itself needs a GPU."""

import pytest
import torch

pytest.importorskip("trl")

from entrostat import InputError
from entrostat.integrations.trl import EntropyCallback
from entrostat.integrations.trl.trainer import EntropyControl
from entrostat.integrations.trl.unsloth import _laid_out
from tests.integrations import unsloth_like
from tests.integrations.trl_runs import ON_POLICY, control, rows, small, trained

torch.set_num_threads(1)
HIGH = control(law={"type": "manual", "command": 1.0})
THRESHOLDS = control(law={"type": "manual", "command": 1.0}, actuator={"type": "sensitivity"})
SETTINGS = {"max_steps": 5, "learning_rate": 1e-2, "loss_type": "grpo"}


class Controlled(EntropyControl, unsloth_like.Compiled):
    """EntropyControlledGRPOTrainer, once Unsloth has replaced TRL's GRPOTrainer."""


@pytest.mark.parametrize("settings", [{}, {"num_iterations": 2}], ids=["once", "twice"])
def test_a_run_under_unsloth_is_the_run_in_trls_own_trainer(tmp_path, settings):
    theirs = trained(tmp_path / "a", THRESHOLDS, **SETTINGS | settings)
    ours = trained(tmp_path / "b", HIGH, kind=Controlled, **SETTINGS | settings)
    names = ("loss", "grad_norm", "clip_ratio/region_mean")
    assert max(row[2] for row in rows(ours, *names)) > 0.1
    for left, right in zip(rows(ours, *names), rows(theirs, *names), strict=True):
        assert left == pytest.approx(right, rel=1e-3, abs=1e-5)


def test_a_rollout_of_one_update_is_cut_by_the_decision_made_on_it(tmp_path, caplog):
    run = trained(tmp_path, HIGH, kind=Controlled, **SETTINGS | ON_POLICY)
    assert "one rollout late" not in caplog.text
    assert rows(run, "clip_ratio/region_mean")[0][0] > 0.1
    assert run.epsilon_low == 0.2


def test_a_compiled_loss_that_does_not_read_its_thresholds_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(unsloth_like, "UnslothEfficientGRPO", unsloth_like.Deaf)
    with pytest.raises(InputError, match="Unsloth's compiled loss cuts 0 tokens"):
        trained(tmp_path, HIGH, kind=Controlled, **SETTINGS | ON_POLICY)


def test_a_loss_that_leaves_the_compiled_one_out_stops_the_run(tmp_path):
    class Slow(unsloth_like.Compiled):
        def compute_loss(self, model, inputs, *args, **kwargs):
            return -(inputs["advantages"][:, None] * model(input_ids=inputs["completion_ids"]).logits.mean(-1)).mean()

    kind = type("Controlled", (EntropyControl, Slow), {})
    with pytest.raises(InputError, match="does not read the thresholds that it was handed"):
        trained(tmp_path, HIGH, kind=kind, **SETTINGS | ON_POLICY)


def test_a_callback_is_refused(tmp_path):
    with pytest.raises(InputError, match="under Unsloth the gradient is taken inside the loss"):
        EntropyCallback(small(tmp_path, None, kind=unsloth_like.Compiled), control(actuator={"type": "split_range"}))


def test_a_ratio_of_whole_responses_is_refused(tmp_path):
    with pytest.raises(InputError, match="importance_sampling_level='token'"):
        trained(tmp_path, HIGH, kind=Controlled, **SETTINGS | {"importance_sampling_level": "sequence"})


def test_a_bonus_that_the_compiled_loss_would_never_add_is_refused(tmp_path):
    bonus = control(law={"type": "manual", "command": 1.0}, actuator={"type": "balanced_bonus"})
    with pytest.raises(InputError, match=r"`actuator\.type` is 'balanced_bonus', which adds to the loss"):
        trained(tmp_path, bonus, kind=Controlled, **SETTINGS)


def test_tokens_are_found_again_by_their_order_and_more_than_trl_knows_are_refused():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    column = torch.arange(6.0).view(2, 3)
    there = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]]).bool()  # of the second row's three the last one pads as well
    assert torch.equal(_laid_out(column, mask, there), torch.tensor([[0.0, 0, 1, 0], [3, 4, 0, 0]]))
    with pytest.raises(InputError, match="mask_truncated_completions=False"):
        _laid_out(column, torch.zeros_like(mask), there)
