"""Control inside TRL's own GRPOTrainer."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOConfig

trl = pytest.importorskip("trl")

from entrostat import EntropyController, InputError, TokenStatistics, policy_loss, token_statistics  # noqa: E402
from entrostat.integrations.trl import EntropyCallback  # noqa: E402
from entrostat.integrations.trl.capture import captured, head_statistics  # noqa: E402
from entrostat.integrations.trl.form import Form  # noqa: E402
from entrostat.integrations.trl.loop import EntropyLoop  # noqa: E402
from entrostat.integrations.trl.trainer import ENTROPY, SENSITIVITY, loss_mask  # noqa: E402
from tests.integrations.trl_runs import ON_POLICY, control, rows, small, trained, weights  # noqa: E402

torch.set_num_threads(1)
STATIC = control(law={"type": "manual"}, actuator={"type": "static"})
CUTTING = control(law={"type": "manual", "command": 0.5}, actuator={"type": "sensitivity"})


@pytest.fixture(scope="module")
def off_policy(tmp_path_factory):
    """Four optimizer steps a rollout, two rollouts, controlled."""
    return trained(tmp_path_factory.mktemp("off"), control())


@pytest.fixture(scope="module")
def on_policy(tmp_path_factory):
    """One optimizer step a rollout, three rollouts, controlled."""
    return trained(tmp_path_factory.mktemp("on"), CUTTING, max_steps=3, **ON_POLICY)


def same_weights(left, right):
    return all(torch.equal(a, b) for a, b in zip(weights(left), weights(right), strict=True))


@pytest.mark.parametrize("setting", [{}, ON_POLICY], ids=["off policy", "on policy"])
def test_without_control_it_is_trls_trainer_to_the_bit(tmp_path, setting):
    theirs = trained(tmp_path / "a", None, max_steps=3, kind=trl.GRPOTrainer, **setting)
    ours = trained(tmp_path / "b", None, max_steps=3, **setting)
    assert rows(ours, "loss", "entropy", "grad_norm") == rows(theirs, "loss", "entropy", "grad_norm")
    assert same_weights(ours, theirs)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "bnpo"])
def test_static_thresholds_give_trls_own_loss(tmp_path, loss_type):
    theirs = trained(tmp_path / "a", None, loss_type=loss_type, num_iterations=2)
    ours = trained(tmp_path / "b", STATIC, loss_type=loss_type, num_iterations=2)
    names = ("loss", "clip_ratio/low_mean", "clip_ratio/high_mean")
    for left, right in zip(rows(ours, *names), rows(theirs, *names), strict=True):
        assert left == pytest.approx(right, abs=2e-6)


# the oldest TRL has none; `make hosts` runs it
NO_BONUS = pytest.mark.skipif(not hasattr(GRPOConfig, "entropy_coef"), reason="this TRL has no entropy bonus")
BONUS = pytest.param("balanced_bonus", marks=NO_BONUS)


def minibatch(run):
    """The first minibatch of a new rollout, as TRL's loop takes it."""
    run.model.train()
    return run._prepare_inputs(next(iter(run.get_train_dataloader())))


@pytest.mark.parametrize("actuator", ["sensitivity", "entropic", "split_range", BONUS])
def test_value_and_gradient_are_those_of_our_own_loss(tmp_path, actuator):
    acting = control(law={"type": "manual", "command": 0.5}, actuator={"type": actuator})
    run = trained(tmp_path, acting, loss_type="bnpo", learning_rate=1e-2, max_steps=1)
    run.current_gradient_accumulation_steps = 1
    batch = run._buffered_inputs[1]  # the policy has moved since: ratios differ from 1
    model = run.accelerator.unwrap_model(run.model)
    tokens = TokenStatistics(batch["old_per_token_logps"], batch[ENTROPY], batch[SENSITIVITY], run._vocab_size)
    theirs = run._compute_loss(run.model, batch)
    theirs.backward()
    gradient = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    decision, mask = run.entropy_loop.decision, loss_mask(batch)
    now = token_statistics(logits_of(model, batch), batch["completion_ids"], entropy_gradient=True)
    ours, metrics = policy_loss(now.logprob, tokens, batch["advantages"], mask, decision, now=now)
    ours.backward()
    assert metrics["clip_ratio/region_mean"] > 0.05
    assert (abs(decision.actuation.bonus) > 0.01) == (actuator == "balanced_bonus")
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-6)
    assert (getattr(run, "entropy_coef", 0.0), getattr(run, "_entropy_bonus_enabled", False)) == (0.0, False)
    for left, right in zip(gradient, model.parameters(), strict=True):
        torch.testing.assert_close(left, right.grad, atol=1e-6, rtol=1e-5)


def logits_of(model, batch):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    length = batch["completion_ids"].shape[1]
    return model(input_ids=ids, attention_mask=attention).logits[:, -length - 1 : -1]


def logprob(model, batch):
    return token_statistics(logits_of(model, batch), batch["completion_ids"]).logprob


def test_the_measured_statistics_are_those_of_the_models_logits(tmp_path):
    run = small(tmp_path, STATIC, temperature=0.7)
    batch = minibatch(run)
    mask = loss_mask(batch)
    with torch.no_grad():
        exact = token_statistics(logits_of(run.model, batch), batch["completion_ids"], temperature=0.7)
    for name, column in (("entropy", ENTROPY), ("sensitivity", SENSITIVITY), ("logprob", "old_per_token_logps")):
        torch.testing.assert_close(batch[column][mask], getattr(exact, name)[mask], atol=2e-6, rtol=1e-5)


def test_the_head_is_read_in_chunks_with_bias_softcap_and_scale(monkeypatch):
    monkeypatch.setattr("entrostat.integrations.trl.capture.CHUNK_ELEMENTS", 37 * 3)
    g = torch.Generator().manual_seed(0)
    hidden, weight, bias = torch.randn(8, 5, generator=g), torch.randn(37, 5, generator=g), torch.randn(37, generator=g)
    targets = torch.randint(37, (8,), generator=g)
    whole = 4 * torch.tanh(1.5 * (hidden @ weight.T + bias) / 4)
    exact = token_statistics(whole[None], targets[None], 0.8)
    chunked = head_statistics(hidden, weight, bias, targets, 0.8, softcap=4.0, scale=1.5)
    for name in ("logprob", "entropy", "sensitivity"):
        torch.testing.assert_close(getattr(chunked, name), getattr(exact, name))


@pytest.mark.parametrize("setting", [{}, ON_POLICY], ids=["off policy", "on policy"])
def test_control_takes_no_forward_pass_of_its_own(tmp_path, setting):
    assert passes(small(tmp_path / "a", control(), max_steps=2, **setting)) == passes(
        small(tmp_path / "b", None, max_steps=2, **setting)
    )


def passes(run):
    count = []
    run.model.get_decoder().layers[0].register_forward_hook(lambda *_: count.append(1))
    run.train()
    return len(count)


def test_one_step_of_the_controller_is_one_rollout(off_policy):
    assert off_policy.entropy_loop.controller.state_dict()["step"] == 2
    assert len(rows(off_policy, "controller/command")) == 2


def test_the_controller_knows_how_many_rollouts_the_run_has(off_policy, on_policy):
    assert off_policy.entropy_loop.controller.state_dict()["total"] == 2
    assert on_policy.entropy_loop.controller.state_dict()["total"] == 3


def test_true_is_the_recommended_control(tmp_path):
    assert small(tmp_path, True).entropy_loop.controller.config.target.type == "hold_then_anneal"


def test_iterations_and_accumulation_count_as_one_rollout(tmp_path):
    """8 optimizer steps x 2 microbatches = 2 rollouts x 4 slices x 2 iterations."""
    run = trained(tmp_path, control(), num_iterations=2, gradient_accumulation_steps=2, max_steps=8)
    assert run.entropy_loop.controller.state_dict()["step"] == 2


@pytest.mark.parametrize(("accumulation", "iterations", "announced"), [(3, 1, [2, 1, 1, 2]), (5, 2, [2, 2, 1, 2])])
def test_a_rollout_that_accumulation_does_not_divide_is_refined_as_often_as_announced(
    tmp_path, accumulation, iterations, announced
):
    run = small(
        tmp_path,
        control(law={"type": "adaptive"}),
        gradient_accumulation_steps=accumulation,
        num_iterations=iterations,
        max_steps=sum(announced),
    )
    loop, counts, taken = run.entropy_loop, [], []
    decide, refine = loop.decide, loop.controller.refine
    loop.decide = lambda batch, updates, momentum: (
        counts.append(updates),
        taken.append(0),
        decide(batch, updates, momentum),
    )[2]

    def counted(*args):
        taken[-1] += 1
        return refine(*args)

    loop.controller.refine = counted
    run.train()
    rollouts = len(announced)  # the last update ends in one more
    assert counts[:rollouts] == taken[:rollouts] == announced


def test_on_policy_the_loss_pass_is_measured_and_the_next_step_cut(on_policy):
    cut = [row[0] for row in rows(on_policy, "clip_ratio/region_mean")]
    assert cut[0] == 0
    assert min(cut[1:]) > 0.05
    assert on_policy.entropy_loop.controller.state_dict()["step"] == 3


def test_on_policy_the_whole_rollout_is_measured_not_the_last_microbatch(on_policy):
    batch = on_policy.entropy_loop.decision.batch
    slices = on_policy._buffered_inputs
    assert batch.tokens == sum(int(loss_mask(part).sum()) for part in slices)
    assert batch.entropy == pytest.approx(rows(on_policy, "entropy")[-1][0], abs=0.02)


def test_target_and_entropy_are_in_trls_log(off_policy):
    (first, *_) = rows(off_policy, "controller/setpoint", "actor/entropy", "region/e1/fraction", "controller/command")
    assert first[0] == 0.5
    assert all(isinstance(value, float) for value in first)


def test_evaluation_does_not_move_the_controller(tmp_path):
    run = trained(tmp_path, control(), max_steps=4)
    before = json.dumps(run.entropy_loop.state_dict())
    run.evaluate(eval_dataset=run.train_dataset.select(range(8)))
    assert json.dumps(run.entropy_loop.state_dict()) == before


@pytest.mark.parametrize("setting", [{}, ON_POLICY], ids=["off policy", "on policy"])
def test_a_resumed_run_takes_the_same_path(tmp_path, setting):
    steps = 4 if setting else 8
    saving = {"save_strategy": "steps", "save_steps": steps // 2, "max_steps": steps, "learning_rate": 1e-3} | setting
    whole, resumed = trained(tmp_path, control(), **saving), small(tmp_path, control(), **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{steps // 2}"))
    names = ("loss", "entropy", "controller/measurement", "controller/command", "clip_ratio/region_mean")
    assert rows(resumed, *names) == rows(whole, *names)
    assert same_weights(resumed, whole)
    assert resumed.entropy_loop.state_dict() == whole.entropy_loop.state_dict()


def test_an_adapter_is_trained_and_its_base_model_is_the_reference(tmp_path):
    peft = pytest.importorskip("peft")
    adapter = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    run = trained(tmp_path, CUTTING, beta=0.01, max_steps=4, peft_config=adapter, learning_rate=1e-2)
    assert min(row[0] for row in rows(run, "clip_ratio/region_mean")) > 0.05
    assert rows(run, "kl")[-1][0] > 0


def test_the_correction_for_vllms_probabilities_stays_trls(tmp_path):
    run = small(tmp_path, CUTTING, loss_type="bnpo")
    batch = minibatch(run)
    run.current_gradient_accumulation_steps = 1
    plain = run._compute_loss(run.model, batch)
    run.use_vllm = run.vllm_importance_sampling_correction = True
    batch["importance_sampling_ratio"] = torch.full_like(batch["old_per_token_logps"], 0.5)
    assert run._compute_loss(run.model, batch).item() == pytest.approx(0.5 * plain.item(), abs=1e-7)


def test_thresholds_are_trls_again_after_the_loss(off_policy):
    assert (off_policy.epsilon_low, off_policy.epsilon_high) == (0.2, 0.2)


def test_the_tap_leaves_trl_as_it_was():
    import trl.trainer.grpo_trainer as grpo
    import trl.trainer.rloo_trainer as rloo
    import trl.trainer.utils as utils

    before = [dict(vars(module)) for module in (grpo, rloo, utils)]
    with captured(torch.ones(1, 1)):
        pass
    assert [dict(vars(module)) for module in (grpo, rloo, utils)] == before


def test_a_mask_of_zeros_holds_the_command_and_says_why_once(tmp_path, caplog):
    run = small(tmp_path, control(), max_steps=8, max_completion_length=1, mask_truncated_completions=True)
    with caplog.at_level(logging.WARNING, "entrostat"):
        run.train()
    assert run.entropy_loop.controller.held == 2
    assert caplog.text.count("raise max_completion_length") == 1


def test_the_callback_moves_the_scalar_thresholds(tmp_path):
    run = small(tmp_path, None, max_steps=6)
    scalar = EntropyCallback(run, control(target={"type": "constant", "value": 2.0}, actuator={"type": "split_range"}))
    run.add_callback(scalar)
    run.train()
    assert run.epsilon_high > 0.25
    assert run.epsilon_low == pytest.approx(0.2)
    assert rows(run, "controller/setpoint")[-1] == (2.0,)


def scalar(run):
    callback = EntropyCallback(
        run, control(target={"type": "constant", "value": 2.0}, actuator={"type": "split_range"})
    )
    run.add_callback(callback)
    return callback


def test_the_callback_goes_on_in_another_folder_under_the_thresholds_that_were_in_force(tmp_path, caplog):
    saving = {"save_strategy": "steps", "save_steps": 4, "logging_steps": 2, "max_steps": 8, "learning_rate": 1e-3}
    whole = small(tmp_path / "one", None, **saving)
    through = scalar(whole)
    whole.train()
    resumed = small(tmp_path / "another", None, **saving)
    after, in_force = scalar(resumed), []
    compute = resumed._compute_loss
    resumed._compute_loss = lambda *args: (
        in_force.append((resumed.epsilon_low, resumed.epsilon_high)),
        compute(*args),
    )[1]
    with caplog.at_level(logging.WARNING, "entrostat"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-4"))
    assert in_force[0] != (0.2, 0.2)
    assert after.controller.state_dict() == through.controller.state_dict()
    assert (resumed.epsilon_low, resumed.epsilon_high) == (whole.epsilon_low, whole.epsilon_high)
    assert rows(resumed, "loss", "entropy", "clip_ratio/region_mean") == rows(
        whole, "loss", "entropy", "clip_ratio/region_mean"
    )
    assert "begins anew" not in caplog.text


@pytest.mark.parametrize("by", ["callback", "trainer"])
def test_a_resume_says_where_a_checkpoint_has_nothing_for_the_controller(tmp_path, caplog, by):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    trained(tmp_path, None, **saving)
    resumed = small(tmp_path, control() if by == "trainer" else None, **saving)
    if by == "callback":
        scalar(resumed)
    with caplog.at_level(logging.WARNING, "entrostat"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert caplog.text.count("the checkpoint of step 2 holds no state of the entropy controller") == 1


def test_the_callback_says_once_that_it_has_no_authority(tmp_path, caplog):
    run = small(tmp_path, None, max_steps=2, **ON_POLICY)
    run.add_callback(EntropyCallback(run, control(actuator={"type": "split_range"})))
    with caplog.at_level(logging.WARNING, "entrostat"):
        run.train()
    assert caplog.text.count("scalar thresholds have no authority") == 1


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ({"surrogate": {"form": "gradient_preserving"}}, "write `form: clip`"),
        ({"surrogate": {"ratio_limit": 3.0}}, "set the host's"),
        ({"guard": {"kl_limit": 0.1}}, "remove it"),
        ({"measurement": {"share": 0.5}}, "remove it"),
    ],
)
def test_the_callback_refuses_what_it_would_ignore(tmp_path, content, remedy):
    with pytest.raises(InputError, match=remedy):
        EntropyCallback(small(tmp_path, None), control(actuator={"type": "split_range"}, **content))


def test_the_guards_stop_ends_a_run_under_the_callback_with_a_checkpoint(tmp_path):
    guard = {"action": "stop", "patience": 2, "band": 0.01}
    run = small(tmp_path, None, max_steps=6)
    far = {"type": "constant", "value": 2.7}
    run.add_callback(
        EntropyCallback(
            run,
            control(target=far, law={"type": "pid", "kp": 1e3}, actuator={"type": "split_range"}, guard=guard),
        )
    )
    run.train()
    assert run.state.global_step < 6
    assert (tmp_path / f"checkpoint-{run.state.global_step}").is_dir()


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_the_callback_refuses_a_run_that_is_not_logged_by_steps(tmp_path, strategy):
    run = small(tmp_path, None, logging_strategy=strategy)
    scalar(run)
    with pytest.raises(InputError, match=f"logging_strategy is '{strategy}'.*write logging_strategy='steps'"):
        run.train()


def test_a_controlled_trainer_goes_on_from_the_callbacks_state(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    first = small(tmp_path, None, **saving)
    callback = scalar(first)
    first.train()
    resumed = small(tmp_path, control(target={"type": "constant", "value": 2.0}), **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    state = resumed.entropy_loop.controller.state_dict()
    assert (state["step"], state["total"]) == (4 + 1, callback.controller.state_dict()["total"])


@pytest.mark.parametrize("damage", [[], {}, {"batch": None}, {"state": {}, "batch": {}}])
def test_a_damaged_state_is_one_sentence(damage):
    with pytest.raises(InputError, match=r"trainer_state\.json is damaged; resume from an earlier checkpoint"):
        EntropyLoop(EntropyController(control())).load_state_dict(damage)


def test_a_curve_runs_its_whole_course_where_an_optimizer_step_spans_two_rollouts(tmp_path):
    falling = {"type": "linear", "start": 1.0, "end": 0.2}
    spanning, alone = (
        trained(
            tmp_path / str(size),
            control(target=falling),
            max_steps=3,
            steps_per_generation=size,
            gradient_accumulation_steps=4,
        )
        for size in (2, 4)
    )
    assert rows(spanning, "controller/setpoint") == rows(alone, "controller/setpoint")
    assert spanning.entropy_loop.controller.state_dict()["total"] == 3


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_refined_command_is_realised_on_the_whole_optimizer_step(tmp_path, iterations):
    run = small(
        tmp_path,
        control(law={"type": "adaptive"}),
        max_steps=4,
        gradient_accumulation_steps=2,
        num_iterations=iterations,
    )
    refine, sizes = run.entropy_loop.controller.refine, []

    def recorded(now, tokens, advantages, mask):
        sizes.append((len(now.logprob), len(tokens.logprob), len(advantages), len(mask)))
        return refine(now, tokens, advantages, mask)

    run.entropy_loop.controller.refine = recorded
    run.train()
    assert sizes == [(8, 16, 16, 16)] * 4


def test_responses_of_unequal_length_count_as_the_loss_weighs_them():
    mask = torch.arange(6) < torch.tensor([[2], [6], [4]])
    advantages = torch.tensor([1.0, -1.0, 0.5])
    assert torch.allclose(Form(divides=True).pulls(advantages, mask), torch.tensor([2.0, -4 / 6, 0.5]))
    assert torch.equal(Form().pulls(advantages, mask), advantages)
    assert [
        Form.of(("grpo",), SimpleNamespace(loss_type=name, importance_sampling_level="token")).divides
        for name in ("grpo", "sapo", "dapo", "cispo")
    ] == [True, True, False, False]
