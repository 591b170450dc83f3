"""Real vLLM engines on the CPU in every placement: the same answers, fresh weights every step, stale ones refused."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from importlib.util import find_spec

import pytest

from entrostat.inputs.errors import InputError
from entrostat.trainer.rollout.ports import free_port
from entrostat.trainer.rollout.vllm.engine import check_version
from tests.runs import ENVIRONMENT, ROOT

# vLLM has no build for some machines; where `make test` can install it these tests run
engine = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` installs it")
PLACEMENTS = ("in_process", "process", "server", "two_ranks")
VLLM = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_SERVER_DEV_MODE": "1"}
PATH = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
SETTING = ENVIRONMENT | VLLM | {"VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": str(ROOT), "PATH": PATH}


def start(*words, log):
    command = [sys.executable, "-m", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=SETTING, stdout=log, stderr=log, start_new_session=True)


def end(run):
    """Kill it, and the engines that it has started: they outlive a killed server."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)


def serve(port, log):
    words = ["--model", "trainer/assets/expressions", "--dtype", "float32", "--enforce-eager", "--max-model-len", 32]
    words += [
        "--kv-cache-memory-bytes",
        2**26,
        "--logprobs-mode",
        "processed_logprobs",
        "--enable-scale-out",
        "--port",
        port,
    ]
    words += ["--weight-transfer-config", '{"backend": "gloo"}']
    words += ["--worker-extension-cls", "entrostat.trainer.rollout.vllm.transfer.WorkerExtension"]
    return start("vllm.entrypoints.openai.api_server", *words, log=log)


def wait_for(url, server, seconds=900):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5)
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What `tests.trainer.vllm_rank` tells of each placement, by rank. Two engines at most are up at a time."""
    folder = tmp_path_factory.mktemp("vllm")

    def finish(name, run):
        assert run.wait(900) == 0, (folder / f"{name}.log").read_text()[-3000:]

    def begin(name, *words, launch=()):
        log = (folder / f"{name}.log").open("w")
        return start(*launch, "tests.trainer.vllm_rank", folder, *words, log=log)

    url = f"http://127.0.0.1:{free_port()}"
    server = serve(url.rpartition(":")[2], (folder / "serving.log").open("w"))
    running = [server]
    try:
        wait_for(url, server)
        words = ["server", f"rollout.engine={{type: vllm, placement: server, url: '{url}'}}"]
        # last the engine that ends this process's own groups with it
        words += [",", "process", "rollout.engine.placement=process", ",", "in_process"]
        running.append(begin("one_rank", *words))
        finish("one_rank", running[-1])
        end(server)
        launch = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
        running.append(begin("two_ranks", "two_ranks", "engine.zero_stage=3", launch=launch))
        finish("two_ranks", running[-1])
    finally:
        for run in running:
            end(run)
    ranks = {name: 2 if name == "two_ranks" else 1 for name in PLACEMENTS}
    return {n: [json.loads((folder / f"{n}.{r}.json").read_text()) for r in range(ranks[n])] for n in PLACEMENTS}


@engine
def test_every_placement_and_number_of_ranks_samples_the_same_answers(told):
    answers = {name: [answer for rank in told[name] for answer in rank["answers"]] for name in PLACEMENTS}
    assert all(answers[name] == answers["in_process"] for name in PLACEMENTS)


@engine
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_log_probabilities_agree_after_every_push(told, placement):
    for step in told[placement][0]["steps"]:
        assert step["sampling/sampling_logp_difference/max"] < 1e-4
        assert step["rollout_corr/rollout_is_eff_sample_size"] == pytest.approx(1, abs=1e-6)


@engine
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_policy_moved_between_the_pushes(told, placement):
    first, second = told[placement][0]["steps"]
    assert first["actor/grad_norm"] > 0
    assert first["actor/entropy"] != second["actor/entropy"]


@engine
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_lost_push_is_refused_in_the_same_step(told, placement):
    assert all("sampled with the weights `step 2` and not with `step 3`" in rank["lost"] for rank in told[placement])


@engine
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_push_that_brings_a_name_and_no_weights_is_refused_in_the_same_step(told, placement):
    assert all("are stale" in rank["renamed"] for rank in told[placement])


@engine
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_stop_text_of_two_tokens_ends_an_answer_with_the_second(told, placement):
    answers = [answer for rank in told[placement] for answer in rank["stopped"]]
    assert any(re.search(r"\d\+$", answer) for answer in answers)
    assert not any(re.search(r"\d\+.", answer) for answer in answers)


@engine
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_resumed_step_draws_the_same_answers(told, placement):
    assert all(rank["same"] for rank in told[placement])


@pytest.mark.parametrize("version", ["0.10.2", "0.31.1rc1"])
def test_a_vllm_that_is_too_old_is_refused_in_one_sentence(version):
    with pytest.raises(InputError, match=r"is installed and 0\.32 or later is needed"):
        check_version(version)


def test_a_new_vllm_is_taken():
    check_version("0.32.0+cpu")
    check_version("1.0")
