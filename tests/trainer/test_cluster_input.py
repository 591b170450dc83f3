"""What is missing or does not fit is one sentence at the start of a run, with its remedy."""

import json
import socket
import sys

import pytest

from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.trainer.config import EngineConfig, RunConfig, UpdateConfig, VLLMConfig, dump_config, load_config
from entrostat.trainer.engine.settings import deepspeed_settings
from entrostat.trainer.policy.models import load_tokenizer
from entrostat.trainer.policy.warmstart import build_tokenizer
from entrostat.trainer.rollout.vllm.engine import import_vllm
from entrostat.trainer.rollout.vllm.server import Server
from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.dataset import DatasetConfig
from tests.forks import entrostat, fork
from tests.runs import SMALL


def refused(folder, *overrides, code=entrostat, **environment):
    """The one sentence of a run that does not start."""
    log, words = folder / "log", ["train", *SMALL, "tracking.mlflow=null", *overrides, "--out", folder / "run"]
    process = fork(log, code, *words, **environment)
    process.join()
    (sentence,) = [line for line in log.read_text().splitlines() if line.startswith("entrostat: ")]
    assert process.exitcode == 2
    assert "Traceback" not in log.read_text()
    return sentence


def without_deepspeed(*words):
    sys.modules["deepspeed"] = None
    return entrostat(*words)


def test_a_missing_extra_is_named_with_what_adds_it(tmp_path):
    sentence = refused(tmp_path, code=without_deepspeed)
    assert "`deepspeed`" in sentence
    assert "add it with `pip install -e '.[train]'`" in sentence


@pytest.mark.parametrize(
    ("module", "call", "words"),
    [
        ("vllm", lambda: import_vllm(own_process=False), "rollouts with vLLM need vllm"),
        ("datasets", lambda: load_task(DatasetConfig(dataset="gsm8k", reward="exact")), "data sets need `datasets`"),
    ],
)
def test_a_missing_part_is_named_where_it_is_asked_for(monkeypatch, module, call, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=words):
        call()


def test_an_absent_gpu_is_told_where_one_is_asked_for(tmp_path):
    assert "PyTorch sees no GPU" in refused(tmp_path, "engine.device=cuda", CUDA_VISIBLE_DEVICES="")


def test_a_port_in_use_is_told_with_the_port(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        sentence = refused(tmp_path, **launched)
    assert f"cannot meet at 127.0.0.1:{port}" in sentence
    assert "--master-port" in sentence


def test_half_of_a_launchers_variables_are_told_with_the_missing_ones(tmp_path):
    sentence = refused(tmp_path, RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    assert "`RANK` is set and `MASTER_ADDR`, `MASTER_PORT` not" in sentence
    assert "unset `RANK`" in sentence


def test_a_server_that_does_not_answer_is_told_with_its_address():
    config = VLLMConfig(type="vllm", placement="server", url="http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"no vLLM server answers at http://127\.0\.0\.1:9"):
        Server(None, config)


def test_a_server_without_an_address_is_refused():
    with pytest.raises(ValueError, match="write both or neither"):
        VLLMConfig(type="vllm", placement="server")


def saved(folder, **changes):
    tokenizer = build_tokenizer("0123456789")
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_without_a_token_to_pad_with_pads_with_the_end_of_the_sequence(tmp_path):
    tokenizer = load_tokenizer(saved(tmp_path, pad_token=None))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_model_without_an_end_of_sequence_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no end-of-sequence token"):
        load_tokenizer(saved(tmp_path, eos_token=None))


def test_a_chat_needs_a_template(tmp_path):
    with pytest.raises(InputError, match="has no chat template"):
        load_tokenizer(saved(tmp_path), chat=True)


def settings(deepspeed=None, **update):
    return deepspeed_settings(UpdateConfig(**update), EngineConfig(zero_stage=3, deepspeed=deepspeed), rows=16)


def test_a_users_own_deepspeed_json_is_laid_over_ours(tmp_path):
    own = {"zero_optimization": {"overlap_comm": False}, "wall_clock_breakdown": True, "train_batch_size": "auto"}
    (tmp_path / "ds.json").write_text(json.dumps(own))
    merged = settings(str(tmp_path / "ds.json"), microbatch=4)
    assert merged["zero_optimization"] == {"stage": 3, "overlap_comm": False}
    assert merged["wall_clock_breakdown"] is True
    assert (merged["train_micro_batch_size_per_gpu"], merged["gradient_accumulation_steps"]) == (4, 4)


def test_a_deepspeed_json_that_says_twice_what_the_run_says_is_refused():
    with pytest.raises(InputError, match="has `train_batch_size`, which follows from"):
        settings({"train_batch_size": 64})


def test_what_a_deepspeed_json_leaves_to_the_trainer_at_any_depth_is_ours():
    open_values = {"zero_optimization": {"stage": "auto"}, "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}
    assert settings({"gradient_clipping": "auto"} | open_values) == settings() | {"fp16": {}}


SPOKEN = {
    "bfloat16": [{"bf16": {"enabled": False}}, {"bf16": True}, {"torch_autocast": {"enabled": True}}],
    "float32": [{"bf16": {"enabled": True}}, {"bfloat16": {"enabled": True}}, {"fp16": {"enabled": True}}],
}


@pytest.mark.parametrize(("dtype", "given"), [(dtype, given) for dtype in SPOKEN for given in SPOKEN[dtype]])
def test_a_deepspeed_json_of_another_precision_than_the_runs_is_refused(dtype, given):
    engine = EngineConfig(dtype=dtype, deepspeed=given)
    with pytest.raises(InputError, match=rf"against `engine\.dtype: {dtype}`; leave it out"):
        deepspeed_settings(UpdateConfig(), engine, rows=4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_deepspeed_json_of_the_runs_own_precision_passes(dtype):
    given = {"bf16": {"enabled": dtype == "bfloat16"}, "fp16": {"enabled": False, "loss_scale": 0}}
    assert (
        deepspeed_settings(UpdateConfig(), EngineConfig(dtype=dtype, deepspeed=given), rows=4)["bf16"] == given["bf16"]
    )


def test_a_deepspeed_json_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"cannot read nowhere.json .*`engine.deepspeed`"):
        settings("nowhere.json")


def test_a_key_twice_in_a_deepspeed_json_is_refused(tmp_path):
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 1, "stage": 2}}')
    with pytest.raises(InputError, match=r"has 'stage' twice; keep one of the two"):
        settings(str(path))


def test_microbatches_that_do_not_divide_a_minibatch_are_refused():
    with pytest.raises(InputError, match="do not divide into microbatches of 5"):
        settings(microbatch=5)


def test_offload_is_passed_on():
    engine = EngineConfig(zero_stage=3, offload_optimizer=True, offload_parameters=True)
    zero = deepspeed_settings(UpdateConfig(), engine, rows=4)["zero_optimization"]
    assert zero["offload_optimizer"] == zero["offload_param"] == {"device": "cpu"}


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"offload_optimizer": True}, "`engine.zero_stage: 0`; write `engine.zero_stage: 1`"),
        ({"offload_parameters": True, "zero_stage": 2}, "`engine.zero_stage: 2`; write `engine.zero_stage: 3`"),
        (
            {"offload_optimizer": True, "zero_stage": 3, "deepspeed": {"zero_optimization": {"stage": 0}}},
            "`engine.deepspeed.zero_optimization.stage: 0`; write `engine.deepspeed.zero_optimization.stage: 1`",
        ),
    ],
)
def test_an_offload_without_a_zero_stage_that_does_it_is_refused(engine, words):
    with pytest.raises(InputError, match=f"has no effect at {words}"):
        deepspeed_settings(UpdateConfig(), EngineConfig(**engine), rows=4)


def test_the_zero_stage_of_a_deepspeed_json_may_do_the_offload(tmp_path):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 3}}')
    engine = EngineConfig(offload_parameters=True, deepspeed=str(tmp_path / "ds.json"))
    zero = deepspeed_settings(UpdateConfig(), engine, rows=4)["zero_optimization"]
    assert zero == {"stage": 3, "offload_param": {"device": "cpu"}}


@pytest.mark.parametrize("zero", [True, {"stage": 4}, {"stage": "3"}])
def test_a_deepspeed_json_without_a_zero_stage_that_exists_is_refused(zero):
    with pytest.raises(InputError, match="for `zero_optimization`; write an object"):
        deepspeed_settings(UpdateConfig(), EngineConfig(deepspeed={"zero_optimization": zero}), rows=4)


@pytest.mark.parametrize("placement", ["in_process", "process"])
def test_an_engine_beside_the_trainer_takes_no_second_gpu(placement):
    with pytest.raises(ValueError, match=r"has one GPU, and `tensor_parallel_size` is 2; start a server with"):
        VLLMConfig(type="vllm", placement=placement, tensor_parallel_size=2)


def placed(placement, **keys):
    url = {"url": "http://127.0.0.1:9"} if placement == "server" else {}
    return {"rollout": {"engine": {"type": "vllm", "placement": placement} | url | keys}}


OWN = {"max_model_len": 512, "max_num_seqs": 8, "enforce_eager": True, "gpu_memory_utilization": 0.5, "kv_cache": 1.0}


@pytest.mark.parametrize(("key", "value"), [*OWN.items(), ("tensor_parallel_size", 2)])
def test_a_key_that_a_server_has_of_its_own_command_line_is_refused_with_its_option(key, value):
    words = rf"`{key}` is {value}, which `placement: server` does not read; leave it out, and start the server with `--"
    with pytest.raises(InputError, match=words):
        parse(RunConfig, placed("server", **{key: value}))


@pytest.mark.parametrize(
    ("placement", "key", "value"),
    [("in_process", "workers", 2), ("process", "workers", 2), ("in_process", "timeout", 9.0)],
)
def test_a_key_of_a_server_is_refused_where_there_is_none(placement, key, value):
    with pytest.raises(InputError, match=f"`{key}` is {value}, which `placement: {placement}` does not read; leave it"):
        parse(RunConfig, placed(placement, **{key: value}))


@pytest.mark.parametrize(
    ("placement", "keys"),
    [("server", {"workers": 2, "timeout": 9.0}), ("process", OWN | {"timeout": 9.0}), ("in_process", OWN)],
)
def test_a_saved_configuration_of_each_placement_loads_again(tmp_path, placement, keys):
    config = parse(RunConfig, placed(placement, **keys))
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
