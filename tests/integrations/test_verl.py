"""Control inside verl's own training worker, on its FSDP2 engine on the CPU; `make hosts` has the environment."""

import os
from functools import partial

import pytest
import torch

verl = pytest.importorskip("verl")

LAUNCHED = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
os.environ |= LAUNCHED
torch.set_num_threads(1)

from omegaconf import OmegaConf  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from verl.trainer.config import CheckpointConfig  # noqa: E402
from verl.trainer.ppo.core_algos import get_policy_loss_fn  # noqa: E402
from verl.utils import tensordict_utils as tu  # noqa: E402
from verl.workers.config import (  # noqa: E402
    ActorConfig,
    FSDPEngineConfig,
    FSDPOptimizerConfig,
    HFModelConfig,
    PolicyLossConfig,
)
from verl.workers.config.engine import TrainingWorkerConfig  # noqa: E402
from verl.workers.engine_workers import ActorRolloutRefWorker  # noqa: E402
from verl.workers.utils.losses import ppo_loss  # noqa: E402
from verl.workers.utils.padding import left_right_2_no_padding, no_padding_2_padding  # noqa: E402

import tests.integrations.verl_cpu  # noqa: E402, F401
from entrostat import InputError, policy_loss, token_statistics  # noqa: E402
from entrostat.integrations.shared.measured import sequence_mean  # noqa: E402
from entrostat.integrations.verl import EntropyTrainingWorker, entrostat  # noqa: E402
from entrostat.integrations.verl.loss import InForce, in_force  # noqa: E402
from entrostat.integrations.verl.settings import check_settings, remarks  # noqa: E402
from entrostat.trainer.policy.models import ASSETS  # noqa: E402
from tests.batches import controller, decide, random_batch  # noqa: E402

MODEL = str(ASSETS / "expressions")
FLOAT32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
CONTROL = {"law": {"type": "manual", "command": 0.5}, "actuator": {"type": "sensitivity"}}


@pytest.fixture(scope="module", autouse=True)
def _launched(_not_launched):
    os.environ.update(LAUNCHED)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A worker as verl's ActorRolloutRefWorker makes it, with the embedded model in float32."""
    meeting = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield make_worker()
    torch.distributed.destroy_process_group()


def make_worker():
    model = HFModelConfig(
        path=MODEL,
        use_remove_padding=False,
        enable_gradient_checkpointing=False,
        override_config={"attn_implementation": "eager"},
    )
    engine = FSDPEngineConfig(
        strategy="fsdp2",
        use_torch_compile=False,
        dtype="float32",
        mixed_precision=FLOAT32,
        use_dynamic_bsz=False,
        micro_batch_size_per_gpu=4,
        infer_micro_batch_size_per_gpu=8,
    )
    config = TrainingWorkerConfig(
        model_type="language_model",
        model_config=model,
        engine_config=engine,
        optimizer_config=FSDPOptimizerConfig(lr=1e-3, total_training_steps=100),
        checkpoint_config=CheckpointConfig(),
    )
    made = EntropyTrainingWorker(config, control=controller(**CONTROL).config)
    made.reset()
    made.set_loss_fn(partial(ppo_loss, config=actor_config()))
    return made


def actor_config():
    return ActorConfig(
        strategy="fsdp2",
        ppo_mini_batch_size=8,
        ppo_micro_batch_size_per_gpu=4,
        rollout_n=4,
        policy_loss=PolicyLossConfig(loss_mode="entrostat"),
    )


def rollout(seed=0, rows=16, prompt=4, time=5):
    """Padded prompts on the left, responses on the right, of random tokens."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 16, (rows, prompt + time), generator=g)
    lengths = torch.randint(2, time + 1, (rows, 1), generator=g)
    mask = torch.ones_like(ids)
    mask[:, prompt:] = torch.arange(time) < lengths
    mask[::3, 0] = 0
    fields = {
        "prompts": ids[:, :prompt],
        "responses": ids[:, prompt:],
        "input_ids": ids,
        "attention_mask": mask,
        "response_mask": mask[:, prompt:],
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "advantages": torch.randn(rows, 1, generator=g).expand(rows, time).contiguous(),
    }
    return TensorDict(fields, batch_size=[rows])


def to_score(batch, temperature=1.0):
    """What verl's trainer sends to have old log-probabilities computed."""
    data = left_right_2_no_padding(batch.clone())
    tu.assign_non_tensor(data, calculate_entropy=True, compute_loss=False, temperature=temperature)
    return data


def scored(worker, batch):
    """The pass in which verl's trainer computes old log-probabilities."""
    data = to_score(batch)
    output = worker.infer_batch(data)
    return no_padding_2_padding(tu.get(output, "log_probs"), data).float()


def to_train(batch, old, temperature=1.0):
    """What verl's trainer sends to have the actor updated: two minibatches of two microbatches each."""
    batch = batch.clone()
    batch["old_log_probs"] = old
    data = left_right_2_no_padding(batch)
    tu.assign_non_tensor(
        data,
        calculate_entropy=False,
        global_batch_size=8,
        mini_batch_size=8,
        epochs=1,
        seed=1,
        dataloader_kwargs={"shuffle": False},
        compute_loss=True,
        temperature=temperature,
    )
    return data


def updated(worker, batch, old):
    """The metrics of an update."""
    return tu.get(worker.train_mini_batch(to_train(batch, old)), "metrics")


def test_verl_knows_the_loss_by_its_name():
    assert get_policy_loss_fn("entrostat") is entrostat


@pytest.mark.parametrize("surrogate", [{}, {"ratio_limit": 1.5}, {"form": "gradient_preserving"}])
@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean"])
def test_value_and_gradient_are_those_of_our_own_loss(mode, surrogate):
    batch = random_batch(3)
    decision = controller(**CONTROL, surrogate=surrogate).step(*batch)
    logprob = (batch.tokens.logprob + 0.3 * torch.randn(batch.tokens.logprob.shape)).clamp(max=0).requires_grad_()
    if mode == "seq-mean-token-mean":
        parts = [
            policy_loss(logprob[i : i + 1], *(x[i : i + 1] for x in batch[:3]), decision)[0]
            for i in range(len(logprob))
        ]
        ours = torch.stack(parts).mean()
    else:
        ours, _ = policy_loss(logprob, *batch[:3], decision)
    (expected,) = torch.autograd.grad(ours, logprob)
    advantages = batch.advantages[:, None].expand_as(logprob)
    with in_force(InForce(decision, batch.tokens.entropy, batch.tokens.sensitivity, 23)):
        theirs, metrics = entrostat(batch.tokens.logprob, logprob, advantages, batch.mask, mode, actor_config())
    (gradient,) = torch.autograd.grad(theirs, logprob)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)
    assert metrics["clip_ratio/region_mean"] > 0.1


def test_a_bonus_and_its_gradient_are_those_of_our_own_loss():
    batch, logits = random_batch(3), torch.randn(32, 11, 23, requires_grad=True)
    decision = decide(batch, 0.5, actuator={"type": "balanced_bonus"})
    now = token_statistics(logits, logits.argmax(-1), entropy_gradient=True)
    ours, _ = policy_loss(now.logprob, *batch[:3], decision, now=now)
    (expected,) = torch.autograd.grad(ours, logits, retain_graph=True)
    what = InForce(decision, batch.tokens.entropy, batch.tokens.sensitivity, 23, entropy_now=now.entropy)
    advantages = batch.advantages[:, None].expand_as(now.logprob)
    with in_force(what):
        theirs, _ = entrostat(batch.tokens.logprob, now.logprob, advantages, batch.mask, config=actor_config())
    (gradient,) = torch.autograd.grad(theirs, logits)
    assert abs(decision.actuation.bonus) > 0.01
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)


def test_importance_weights_scale_the_loss():
    batch = random_batch(4)
    decision = controller(**CONTROL).step(*batch)
    words = (batch.tokens.logprob, batch.tokens.logprob, batch.advantages[:, None].expand_as(batch.mask), batch.mask)
    with in_force(InForce(decision, batch.tokens.entropy, batch.tokens.sensitivity, 23)):
        plain, _ = entrostat(*words, config=actor_config())
        halved, _ = entrostat(
            *words, config=actor_config(), rollout_is_weights=torch.full_like(batch.tokens.logprob, 0.5)
        )
    assert halved.item() == pytest.approx(0.5 * plain.item(), abs=1e-7)


def spoilt(where, *names):
    """Loss, its gradient and metrics under a bonus, where these columns of the batch are not finite."""
    batch, g = random_batch(3, batch=64), torch.Generator().manual_seed(0)
    decision = decide(batch, 0.5, actuator={"type": "balanced_bonus"})
    logits = torch.randn(*batch.mask.shape, 23, generator=g)
    now = token_statistics(logits, logits.argmax(-1))
    old, weights = batch.tokens.logprob.clone(), torch.ones_like(now.logprob)
    for name in names:
        {"now": now.logprob, "entropy": now.entropy, "old": old, "weights": weights}[name][where] = torch.nan
    logprob, advantages = now.logprob.requires_grad_(), batch.advantages[:, None].expand_as(old)
    with in_force(InForce(decision, batch.tokens.entropy, batch.tokens.sensitivity, 23, entropy_now=now.entropy)):
        loss, metrics = entrostat(
            old, logprob, advantages, batch.mask, config=actor_config(), rollout_is_weights=weights
        )
    return loss, *torch.autograd.grad(loss, logprob), metrics


def test_a_token_that_is_not_finite_leaves_the_loss():
    loss, gradient, metrics = spoilt((0, 0), "now", "entropy", "old", "weights")
    assert torch.stack([loss, gradient.norm(), torch.tensor(metrics["actor/ppo_kl"])]).isfinite().all()
    assert gradient[0, 0] == 0
    assert gradient.norm() > 0


@pytest.mark.parametrize("where", [(slice(32), 0), ...])
def test_above_the_share_that_may_be_lost_the_gradient_is_no_number_so_that_verl_skips_the_update(where):
    loss, gradient, _ = spoilt(where, "old")
    assert loss.isnan()
    assert not gradient.norm().isfinite()


def test_a_call_without_a_decision_is_one_sentence():
    with pytest.raises(InputError, match=r"external_lib=entrostat.integrations.verl"):
        entrostat(*torch.zeros(4, 2, 3))


def test_statistics_are_those_of_the_models_logits(worker):
    from transformers import AutoModelForCausalLM

    batch = rollout()
    old = scored(worker, batch)
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(MODEL, attn_implementation="eager")
        model.load_state_dict({k: v.full_tensor() for k, v in worker.engine.module.state_dict().items()})
        logits = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], position_ids=batch["position_ids"]
        ).logits[:, 3:-1]
    exact, mask = token_statistics(logits, batch["responses"]), batch["response_mask"].bool()
    torch.testing.assert_close(old[mask], exact.logprob[mask], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(worker._scored["exact_entropy"][mask], exact.entropy[mask], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(worker._scored["sensitivity"][mask], exact.sensitivity[mask], atol=2e-6, rtol=1e-5)


def test_some_steps_in_verls_own_actor(worker):
    before = weights(worker)
    start = worker.controller.state_dict()["step"]
    for seed in range(3):
        batch = rollout(seed)
        metrics = updated(worker, batch, scored(worker, batch))
        assert min(metrics["clip_ratio/region_mean"]) > 0.05
        assert metrics["controller/command"] == [0.5]
        assert metrics["entropy"][0] == pytest.approx(worker._decision.measurement)
    assert worker.controller.state_dict()["step"] == start + 3
    assert any(
        not torch.equal(a, p.full_tensor()) for a, p in zip(before, worker.engine.module.parameters(), strict=True)
    )


def test_a_response_that_the_rollout_correction_drops_leaves_the_contributions(worker):
    batch = rollout(4)
    old = scored(worker, batch)
    updated(worker, batch, old)
    with_all = worker._decision.batch.no_advantage
    batch["rollout_is_weights"] = torch.ones_like(old)
    batch["rollout_is_weights"][:12] = 0
    updated(worker, batch, scored(worker, batch))
    assert (with_all, worker._decision.batch.no_advantage > 0.5) == (0, True)


def test_under_a_mean_over_responses_each_counts_as_one(worker, monkeypatch):
    given, plain = [], worker.controller.step
    monkeypatch.setattr(
        worker.controller,
        "step",
        lambda tokens, a, mask, **more: given.append((a, mask)) or plain(tokens, a, mask, **more),
    )
    for divides in (False, True):
        monkeypatch.setattr(worker, "_divides", divides)
        updated(worker, rollout(4), scored(worker, rollout(4)))
    (tokens, mask), (responses, _) = given
    torch.testing.assert_close(responses, sequence_mean(tokens, mask))
    assert not torch.equal(responses, tokens)


def test_a_curve_in_shares_of_the_run_knows_the_length_that_verls_trainer_tells(worker):
    assert worker.controller.state_dict()["total"] == worker.optimizer_config.total_training_steps == 100


def weights(worker):
    return [parameter.full_tensor().detach().clone() for parameter in worker.engine.module.parameters()]


def test_a_batch_that_was_not_scored_is_one_sentence(worker):
    old = scored(worker, rollout(1))
    with pytest.raises(InputError, match="not the one that this rank scored last"):
        updated(worker, rollout(1), old - 0.1)


def test_one_log_probability_that_is_no_number_does_not_end_the_run(worker):
    batch = rollout(1, rows=32, time=8)
    old = scored(worker, batch)
    worker._scored["log_probs"][0, 0] = old[0, 0] = torch.nan  # both are of the same pass
    metrics = updated(worker, batch, old)
    assert metrics["controller/nonfinite_tokens"] == [1]
    assert metrics["controller/held"] == [0]


def test_a_worker_that_trains_with_another_loss_stops_the_run(worker):
    plain = actor_config()
    object.__setattr__(plain, "policy_loss", PolicyLossConfig(loss_mode="vanilla"))
    worker.set_loss_fn(partial(ppo_loss, config=plain))
    try:
        with pytest.raises(InputError, match="does not read the thresholds that it was handed"):
            updated(worker, rollout(2), scored(worker, rollout(2)))
    finally:
        worker.set_loss_fn(partial(ppo_loss, config=actor_config()))


def test_the_state_is_saved_with_the_actor(worker, tmp_path):
    updated(worker, rollout(5), scored(worker, rollout(5)))
    saved = worker.controller.state_dict()
    worker.save_checkpoint(str(tmp_path))
    updated(worker, rollout(6), scored(worker, rollout(6)))
    worker.load_checkpoint(str(tmp_path))
    assert worker.controller.state_dict() == saved


def host(**actor):
    content = {"actor": {"policy_loss": {"loss_mode": "entrostat"}} | actor, "model": {"use_fused_kernels": False}}
    return OmegaConf.create(content)


def test_verl_makes_the_worker_where_a_configuration_is_given(tmp_path):
    (tmp_path / "control.yaml").write_text("target: {type: constant, value: 0.6}\n")

    class Outer:
        config = OmegaConf.merge(host(), {"entrostat": {"config": str(tmp_path / "control.yaml")}})

    made = ActorRolloutRefWorker.actor_worker_cls.fget(Outer())
    assert made.func is EntropyTrainingWorker
    assert made.keywords["control"].target.value == 0.6
    assert not made.keywords["divides"]
    Outer.config.actor.loss_agg_mode = "seq-mean-token-mean"
    assert ActorRolloutRefWorker.actor_worker_cls.fget(Outer()).keywords["divides"]


def test_dual_clip_is_taken_from_the_controllers_configuration():
    check_settings(controller(surrogate={"ratio_limit": 3}).config, host())


def test_settings_get_one_sentence_each():
    with pytest.raises(InputError, match="loss_mode=entrostat"):
        check_settings(controller().config, host(policy_loss={"loss_mode": "vanilla"}))
    assert "which pulls it back" in remarks(host(entropy_coeff=0.01))[0]
    assert "use_kl_loss" in remarks(host(use_kl_loss=True))[0]


def test_a_bonus_moves_the_entropy_of_verls_own_actor(worker):
    start = [parameter.detach().clone() for parameter in worker.engine.module.parameters()]
    plain, entropies = worker.controller, []
    for command in (1.0, -1.0):
        worker.controller = controller(law={"type": "manual", "command": command}, actuator={"type": "entropy_bonus"})
        with torch.no_grad():
            for parameter, value in zip(worker.engine.module.parameters(), start, strict=True):
                parameter.copy_(value)
        for _ in range(4):
            metrics = updated(worker, rollout(3), scored(worker, rollout(3)))
        assert metrics["controller/bonus"] == [command]
        entropies.append(metrics["entropy"][0])
    worker.controller = plain
    assert entropies[0] > 1.05 * entropies[1]


def test_an_update_without_the_gradient_of_the_entropy_stops_the_run(worker, monkeypatch):
    prepare = worker.engine.prepare_model_outputs

    def detached(*args, **kwargs):
        outputs = prepare(*args, **kwargs)
        return outputs | {"entropy": outputs["entropy"].detach()} if "entropy" in outputs else outputs

    monkeypatch.setattr(worker.engine, "prepare_model_outputs", detached)
    monkeypatch.setattr(worker, "controller", controller(law={"type": "manual"}, actuator={"type": "balanced_bonus"}))
    with pytest.raises(InputError, match="gives the policy's entropy no gradient under the bonus"):
        updated(worker, rollout(3), scored(worker, rollout(3)))
