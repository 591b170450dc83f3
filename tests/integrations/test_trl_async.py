"""TRL's AsyncGRPOTrainer under control: rollouts of a worker of one's own, as TRL lets one hand it in."""

import queue
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("trl.experimental.async_grpo")

from datasets import Dataset
from torch.nn.functional import scaled_dot_product_attention
from trl.experimental.async_grpo import AsyncGRPOConfig, packing
from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

from entrostat import InputError
from entrostat.integrations.trl.async_grpo import EntropyControlledAsyncGRPOTrainer
from entrostat.trainer.policy.models import ASSETS
from tests.integrations.trl_runs import control, rows

HIGH = control(law={"type": "manual", "command": 1.0})


class Worker:
    """Random responses, with advantages of both signs."""

    def __init__(self, samples):
        g = np.random.default_rng(0)
        self.rollout_buffer, self.metrics_queue = queue.Queue(), queue.Queue()
        for number in range(samples):
            self.rollout_buffer.put(
                RolloutSample(
                    prompt=[],
                    completion=[],
                    input_ids=g.integers(2, 16, 9),
                    completion_mask=np.arange(9) >= 4,
                    old_log_probs=np.where(np.arange(9) >= 4, -2.7, 0.0).astype(np.float32),
                    advantage=float(g.normal()),
                    model_version=0,
                    group_id=number // 4,
                    metrics={"reward": 0.0},
                )
            )

    def start(self): ...
    def stop(self): ...
    def update_model_version(self, model_version): ...
    def check_health(self, stale_after_s): ...


class NoTransfer:
    def init_weight_transfer(self): ...
    def pause(self): ...
    def send_weights(self, iterator): ...
    def resume(self): ...
    def destroy(self): ...


def slow_attention(query, key, value, cu_q, cu_k, max_q, max_k, softmax_scale, causal, window_size):
    """Attention of packed segments, [tokens, heads, width], by a mask: the last query of each sees all of its keys."""
    assert causal
    assert window_size == (-1, -1)
    out = []
    for (q0, q1), (k0, k1) in zip(*(pairwise(ends.tolist()) for ends in (cu_q, cu_k)), strict=True):
        places = torch.arange(k1 - k0, device=query.device)
        seen = places <= places[q0 - q1 :, None]
        parts = (x.transpose(0, 1)[None] for x in (query[q0:q1], key[k0:k1], value[k0:k1]))
        segment = scaled_dot_product_attention(*parts, attn_mask=seen, scale=softmax_scale, enable_gqa=True)
        out.append(segment[0].transpose(0, 1))
    return torch.cat(out)


@pytest.fixture(autouse=True)
def attention(monkeypatch):
    """TRL's packed attention is a kernel that is fetched, for bfloat16 on GPUs; and TRL asks for a GPU's name."""
    monkeypatch.setattr(packing, "_flash_attn", lambda: SimpleNamespace(flash_attn_varlen_func=slow_attention))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "none")


def made(tmp_path, kind=EntropyControlledAsyncGRPOTrainer):
    args = AsyncGRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_steps=3,
        token_budget=0,
        max_staleness=100,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        disable_tqdm=True,
        learning_rate=1e-3,
        model_init_kwargs={"dtype": "float32"},
    )
    return kind(
        model=str(ASSETS / "expressions"),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": "1:"}] * 8),
        rollout_worker=Worker(64),
        weight_transfer=NoTransfer(),
        entropy_control=HIGH,
    )


def test_a_decision_an_optimizer_step_acts_on_the_next(tmp_path):
    run = made(tmp_path)
    run.train()
    cut = [row[0] for row in rows(run, "clip_ratio/region_mean")]
    assert run.entropy_loop.controller.state_dict()["step"] == 3
    assert len(rows(run, "controller/command")) == 3
    assert cut[-1] > 0.1
    for measured, logged in rows(run, "actor/entropy", "entropy"):
        assert measured == pytest.approx(logged, rel=1e-5)
    run.entropy_loop.close()


def test_a_loss_that_does_not_read_its_thresholds_stops_the_run(tmp_path):
    run = made(tmp_path)
    run.entropy_loop.close()
    plain = type(run).__mro__[1].compute_loss

    class Deaf(type(run).__mro__[1]):
        def compute_loss(self, model, inputs, **kwargs):
            self.epsilon_low, self.epsilon_high = 0.2, 0.2
            outputs = {}

            def bare(**words):
                outputs["now"] = model(**words)
                self.epsilon_low, self.epsilon_high = 0.2, 0.2
                return outputs["now"]

            return plain(self, bare, inputs, **kwargs)

    kind = type("Controlled", (EntropyControlledAsyncGRPOTrainer, Deaf), {})
    controlled = made(tmp_path, kind)
    with pytest.raises(InputError, match="does not read the thresholds"):
        controlled.train()
    controlled.entropy_loop.close()
