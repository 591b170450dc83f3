"""`entrostat plan` against what small runs really allocate and compute; the ready configurations."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma3Config, Qwen2ForCausalLM

from entrostat import InputError
from entrostat.trainer.adapter import add_adapter
from entrostat.trainer.commands.plan import describe
from entrostat.trainer.config import LoRAConfig, RunConfig, VLLMConfig, load_config
from entrostat.trainer.engine.engine import Engine, init_distributed
from entrostat.trainer.engine.settings import deepspeed_settings
from entrostat.trainer.policy.models import keep_few_activations
from entrostat.trainer.policy.plan import (
    GIB,
    layer_bytes,
    pass_memory,
    sampler_memory,
    state_memory,
    step_flops,
    step_seconds,
)
from entrostat.trainer.policy.shapes import load_shape
from entrostat.trainer.rollout import Rollout, response_logits
from entrostat.trainer.rollout.prefix import shared_logits
from tests.policies import qwen2
from tests.runs import entrostat

READY = sorted((Path(__file__).parents[2] / "examples" / "gpu").glob("*.yaml"))
PROMPT, ANSWER, ROWS = 8, 24, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model of the kind that the ready configurations train."""
    path = tmp_path_factory.mktemp("model")
    qwen2(1024, hidden=128, layers=4, tie_word_embeddings=False).save_pretrained(path)
    return path


def run_config(folder, **engine):
    return RunConfig.model_validate(
        {
            "model": str(folder),
            "rollout": {"prompts": 1, "responses_per_prompt": ROWS, "max_new_tokens": ANSWER},
            "update": {"minibatches": 1},
            "engine": engine,
        }
    )


def batch():
    sequences = torch.randint(1024, (ROWS, PROMPT + ANSWER))
    mask = torch.ones(ROWS, ANSWER, dtype=torch.bool)
    return Rollout(sequences, torch.ones_like(sequences), PROMPT, mask, torch.zeros(ROWS), [""] * ROWS, mask.float())


def sampling(config, **engine):
    rollout = config.rollout.model_copy(update={"engine": VLLMConfig(type="vllm", **engine)})
    return config.model_copy(update={"rollout": rollout})


def adapted(config, rank):
    return config.model_copy(update={"adapter": rank and LoRAConfig(rank=rank)})


def bytes_of(tensors):
    """Of the storages behind them, each once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def opened(folder, config):
    init_distributed("cpu")
    settings = deepspeed_settings(config.update, config.engine, ROWS)
    dtype = torch.bfloat16 if config.engine.dtype == "bfloat16" else torch.float32
    return Engine(policy(folder, config, dtype), config.update, settings)


def policy(folder, config, dtype=torch.float32):
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=dtype)
    if config.adapter:
        add_adapter(model, config.adapter)
    return model


@pytest.mark.parametrize("rank", [None, 8])
@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (1, "float32"), (0, "bfloat16"), (2, "bfloat16")])
def test_weights_and_optimizer_take_the_memory_that_was_planned(folder, stage, dtype, rank):
    config = adapted(run_config(folder, zero_stage=stage, dtype=dtype), rank)
    engine, planned = opened(folder, config), state_memory(config, load_shape(str(folder)))
    engine.update([response_logits(engine.deepspeed, batch()).float().square().mean()])
    wrapper = engine.deepspeed.optimizer
    adam = getattr(wrapper, "optimizer", wrapper)
    moments = [t for state in adam.state.values() for t in state.values() if torch.is_tensor(t) and t.numel() > 1]
    weights = [p.data for p in engine.model.parameters()]
    masters = [p.data for group in adam.param_groups for p in group["params"]]
    kept = {w.untyped_storage().data_ptr() for w in weights}
    masters = [m for m in masters if m.untyped_storage().data_ptr() not in kept]
    assert bytes_of(weights) == pytest.approx(planned["weights"], rel=0.02)
    assert bytes_of(moments) + bytes_of(masters) == pytest.approx(planned["optimizer"], rel=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_pass_keeps_the_activations_that_were_planned(folder, dtype, checkpointing):
    config = run_config(folder, dtype=dtype, gradient_checkpointing=checkpointing)
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    if checkpointing:
        keep_few_activations(model)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = response_logits(model, batch())
    measured = sum(size for pointer, size in kept.items() if pointer not in weights)
    shape = load_shape(str(folder))
    planned = pass_memory(config, shape, PROMPT)["activations"]
    if checkpointing:  # the layer that is computed again comes and goes in the backward pass
        planned -= ROWS * (PROMPT + ANSWER) * layer_bytes(shape, logits.element_size())
    assert measured == pytest.approx(planned, rel=0.1)


@pytest.mark.parametrize("rank", [None, 1])
def test_matrix_products_are_those_that_were_planned(folder, rank):
    config, rollout = adapted(run_config(folder), rank), batch()
    model = policy(folder, config)
    planned = step_flops(config, load_shape(str(folder)), PROMPT)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        response_logits(model, rollout)
    with FlopCounterMode(display=False) as both:
        response_logits(model, rollout).sum().backward()
    assert forward.get_total_flops() == pytest.approx(planned["measure"], rel=0.1)
    assert both.get_total_flops() == pytest.approx(planned["update"], rel=0.1)


def test_prompts_that_are_read_once_are_planned_once(folder):
    config, rollout = run_config(folder), batch()
    config = config.model_copy(update={"update": config.update.model_copy(update={"shuffle": "prompts"})})
    rollout = replace(rollout, sequences=rollout.sequences[:1].expand(ROWS, -1).contiguous())
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        shared_logits(policy(folder, config), rollout)
    planned = step_flops(config, load_shape(str(folder)), PROMPT)
    assert forward.get_total_flops() == pytest.approx(planned["measure"], rel=0.1)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-0.5B", 0.49),
        ("Qwen/Qwen2.5-Math-1.5B", 1.54),
        ("Qwen/Qwen2.5-7B", 7.62),
        ("Qwen/Qwen2.5-32B", 32.8),
    ],
)
def test_parameters_of_the_ready_models_are_those_of_their_cards(name, billions):
    assert load_shape(name).parameters / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_configuration_loads_fits_its_gpus_and_prints_the_memory_of_its_first_lines(path):
    printed = entrostat("plan", path)
    assert printed.returncode == 0, printed.stderr
    assert "does not fit" not in printed.stdout
    together = next(line for line in printed.stdout.splitlines() if "together" in line)
    said = path.read_text().partition("`entrostat plan` says ")[2].split()[0]
    assert float(together.split()[1]) == pytest.approx(float(said), abs=0.51)


@pytest.mark.parametrize("law", ["increase_decrease", "decrease_increase_decrease", "oscillatory_decay"])
def test_the_papers_strategies_load_in_its_setting(law):
    (path,) = [path for path in READY if "7b" in path.stem]
    config = load_config(path, [f"control=examples/strategies/flexec_{law}.yaml", "control.law.steps=400"])
    assert config.control.law.steps == config.steps


def test_a_run_that_does_not_fit_is_told_so():
    printed = entrostat("plan", READY[-1], "engine.zero_stage=0")
    assert "does not fit" in printed.stdout


@pytest.mark.parametrize(("stage", "planned"), [(2, 2), ("auto", 0)])
def test_the_zero_stage_of_a_deepspeed_json_is_planned(folder, tmp_path, stage, planned):
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    own = run_config(folder, deepspeed=str(tmp_path / "ds.json"))
    assert f"ZeRO {planned}, float32" in describe(own, PROMPT)
    assert describe(own, PROMPT) == describe(run_config(folder, zero_stage=planned), PROMPT)


def test_the_offloading_of_a_deepspeed_json_is_planned(folder):
    block = {"device": "cpu"}
    zero = {"stage": 3, "offload_param": block, "offload_optimizer": block}
    own = run_config(folder, deepspeed={"zero_optimization": zero})
    same = run_config(folder, zero_stage=3, offload_parameters=True, offload_optimizer=True)
    assert describe(own, PROMPT) == describe(same, PROMPT)


def test_an_offload_that_the_run_would_refuse_is_refused_in_the_plan(folder):
    with pytest.raises(InputError, match=r"`engine\.offload_optimizer` has no effect"):
        describe(run_config(folder, offload_optimizer=True), PROMPT)


def test_an_engine_with_a_key_value_cache_takes_that_and_its_weights(folder):
    config, shape = run_config(folder), load_shape(str(folder))
    for size in (0.5, 64.0):
        sampled = sampler_memory(sampling(config, kv_cache=size, gpu_memory_utilization=0.9), shape)
        assert sampled == {"vLLM engine": 4 * shape.parameters + size * GIB}
    assert sampler_memory(sampling(config, gpu_memory_utilization=0.9), shape) == {"vLLM engine": 0.9 * 80 * GIB}


@pytest.mark.parametrize(("key", "value"), [("kv_cache", 90.0), ("gpu_memory_utilization", 0.95)])
def test_what_does_not_fit_is_told_with_the_key_that_has_an_effect(folder, key, value):
    printed = describe(sampling(run_config(folder), **{key: value}), PROMPT)
    assert f"lower update.microbatch or rollout.engine.{key}, or raise" in printed


def test_a_server_is_planned_to_sample_all_answers_at_once(folder):
    shape, flops = load_shape(str(folder)), {"rollout": 0.0, "measure": 0.0, "update": 0.0}
    config = sampling(run_config(folder), placement="server", url="http://127.0.0.1:9")
    many = config.model_copy(update={"rollout": config.rollout.model_copy(update={"prompts": 64})})
    one, all_of_them = (step_seconds(c, shape, flops, 0)["rollout"] for c in (config, many))
    assert one == all_of_them


def test_a_model_without_a_shape_is_one_sentence():
    refused = entrostat("plan", "examples/static.yaml", "model=./nowhere")
    assert refused.returncode == 2
    assert "cannot read the shape of the model" in refused.stderr


@pytest.mark.parametrize("content", ['{"model_type": "t5"}', '{"model_type": "qwen2", "hidden_size": "big"}', "{"])
def test_a_folder_of_another_kind_of_model_has_no_shape(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="cannot read the shape of the model"):
        load_shape(str(tmp_path))


def test_the_shape_of_a_model_that_reads_pictures_too_is_its_language_model_s(tmp_path):
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    Gemma3Config(text_config=text | {"vocab_size": 300, "head_dim": 8}).save_pretrained(tmp_path)
    assert load_shape(str(tmp_path)).vocabulary == 300


def test_a_sampled_measurement_is_planned_as_the_share_of_the_pass_that_it_is():
    law = "control.law={type: pid}"
    whole, sampled = (load_config(READY[0], [law, f"control.measurement.share={share}"]) for share in (1, 0.25))
    shape = load_shape(whole.model)
    assert step_flops(sampled, shape, PROMPT)["measure"] == step_flops(whole, shape, PROMPT)["measure"] / 4
    printed = entrostat("plan", READY[0], "control.law={type: pid}", "control.measurement.share=0.25")
    assert "a measuring pass over 25.0% of the responses" in printed.stdout
