"""`entrostat plan` against what small runs really allocate and compute; the ready configurations."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma3Config, Qwen2ForCausalLM

from entrostat import InputError
from entrostat.trainer.adapter import add_adapter
from entrostat.trainer.config import LoRAConfig, RunConfig, load_config
from entrostat.trainer.engine.engine import Engine, init_distributed
from entrostat.trainer.engine.settings import deepspeed_settings
from entrostat.trainer.policy.models import keep_few_activations
from entrostat.trainer.policy.plan import layer_bytes, pass_memory, state_memory, step_flops
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
