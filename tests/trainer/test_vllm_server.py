"""The client of a vLLM server, against a stand-in of its routes: what it makes of a server that fails."""

import json
import time
from functools import partial
from importlib.util import find_spec

import pytest
import torch

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import VLLMConfig
from entrostat.trainer.engine.checkpoint import newest_step
from entrostat.trainer.rollout.vllm.server import Server
from entrostat.trainer.step import retry
from entrostat.trainer.step.retry import retried
from tests.forks import ended, fork, scripted
from tests.runs import SMALL
from tests.trainer.vllm_stand_in import CLOSED, SILENT, serving

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` installs it")
SAMPLE, MEET = "inference/v1/generate", "init_weight_transfer_engine"


def connected(server, policy=None, **options):
    """A client that has pushed the weights of a small policy as `step 0`."""
    config = {"type": "vllm", "placement": "server", "url": server.url, "timeout": 60.0}
    client = Server(policy or torch.nn.Linear(2, 2), VLLMConfig(**config | options))
    client.push("step 0")
    return client


def sampled(*faults):
    """What sampling leads to while the server has these faults, and how often it was asked."""
    retry.time.sleep = lambda seconds: None
    with serving() as server:
        client = connected(server)
        server.faults[SAMPLE] = list(faults)
        try:
            answers, retries = retried(lambda: client.generate([([1], {})]), "the rollout")
            said = [answers[0].token_ids, retries]
        except InputError as error:
            said = str(error).replace(server.url, "URL")
        return said, server.asked.count(SAMPLE)


def pushed(host):
    """Whether a server at this address has the weights that it was sent; what was said instead."""
    policy = torch.nn.Linear(2, 2)
    try:
        with serving(host=host) as server:
            connected(server, policy)
            return all(torch.equal(server.weights[name], weight) for name, weight in policy.named_parameters())
    except OSError as error:
        return repr(error)


def met(workers, *faults, **options):
    """What a server of `workers` processes with faults at the meeting leads to, after how long, and what was asked."""
    with serving(workers=workers) as server:
        server.faults[MEET] = list(faults)
        start = time.monotonic()
        try:
            said = connected(server, **options) and ""
        except InputError as error:
            said = str(error).replace(server.url, "URL")
        return said, time.monotonic() - start, server.asked


CASES = {
    "two workers": (met, 2),
    "no transfer": (met, 1, 500),
    "absent": (partial(met, timeout=2.0), 1, 202),
    "silent": (partial(met, timeout=2.0), 1, SILENT),
    "IPv4": (pushed, "127.0.0.1"),
    "IPv6": (pushed, "::1"),
    "503, then well": (sampled, 503),
    "closed, then well": (sampled, CLOSED),
    "503": (sampled, *[503] * 4),
    "closed": (sampled, *[CLOSED] * 4),
    "400": (sampled, 400),
}


def tell(path):
    """Write what each case leads to; in a process of its own, since vLLM's import changes one."""
    path.write_text(json.dumps({name: case(*words) for name, (case, *words) in CASES.items()}))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    process = fork(folder / "log", tell, folder / "told.json")
    ended([process], 300)
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
    return json.loads((folder / "told.json").read_text())


def test_a_server_of_another_number_of_workers_is_told_with_both_before_anybody_waits(told):
    said, _, asked = told["two workers"]
    assert "URL has 2 worker processes, and `rollout.engine.workers` is 1; write `rollout.engine.workers=2`." in said
    assert asked == ["get_world_size"]


def test_a_server_that_refuses_the_transfer_ends_the_wait_for_it(told):
    said, seconds, _ = told["no transfer"]
    assert "URL refuses /init_weight_transfer_engine (500: " in said
    assert seconds < 30  # of a timeout of 60


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("silent", "gives no answer to /init_weight_transfer_engine within 2 s; "),
        ("absent", "does not meet this process"),
    ],
)
def test_a_server_that_does_not_come_to_the_meeting_is_given_the_configured_time(told, fault, why):
    said, seconds, _ = told[fault]
    assert f"URL {why}" in said
    assert seconds < 30


@pytest.mark.parametrize("address", ["IPv4", "IPv6"])
def test_a_server_is_sent_the_weights_at_an_address_of_either_kind(told, address):
    if "Cannot assign requested address" in str(told[address]):
        pytest.skip(f"this machine has no {address}")
    assert told[address] is True


@pytest.mark.parametrize("fault", ["503", "closed"])
def test_a_server_that_fails_once_while_it_samples_is_asked_again(told, fault):
    assert told[f"{fault}, then well"] == [[[1], 1], 2]


@pytest.mark.parametrize(
    ("fault", "why"),
    {
        "503": 'the vLLM server URL refuses /inference/v1/generate (503: {"error": "busy"})); look at its log.',
        "closed": "no vLLM server answers at URL/inference/v1/generate (ConnectionError)); start one as "
        "trainer/rollout/vllm/server.py shows, or correct `rollout.engine.url`.",
    }.items(),
)
def test_a_server_that_goes_on_failing_is_named_with_what_to_do(told, fault, why):
    assert told[fault] == [f"the rollout failed 4 times ({why}", 4]


def test_a_request_that_the_server_refuses_is_not_made_again(told):
    assert told["400"] == [
        'the vLLM server URL refuses /inference/v1/generate (400: {"error": "busy"}); look at its log.',
        1,
    ]


SERVER_DIES = """
import json, sys
from pathlib import Path
import torch.distributed as dist
from entrostat.trainer.config import VLLMConfig, load_config
from entrostat.trainer.errors import Stopped
from entrostat.trainer.rollout.sampler import TransformersSampler
from entrostat.trainer.rollout.vllm.server import Server
from entrostat.trainer.run import run
from tests.trainer.vllm_stand_in import CLOSED, serving

def push(sampler, version):
    if not hasattr(sampler, "server"):
        dist.broadcast_object_list(url, src=0)
        options = {"type": "vllm", "placement": "server", "url": url[0], "timeout": 60.0}
        sampler.server = Server(sampler._model, VLLMConfig(**options))
    if version == "step 3":
        stand_in.faults["start_weight_update"] = [CLOSED]
    sampler.server.push(version)

TransformersSampler.push = push
with serving() as stand_in:
    url = [stand_in.url]
    try:
        said = run(load_config(sys.argv[2], sys.argv[3:]), Path(sys.argv[1], "run"))
    except Stopped as error:
        said = str(error).replace(url[0], "URL")
Path(sys.argv[1], f"rank{dist.get_rank()}.json").write_text(json.dumps(said))
"""


def test_a_server_that_is_gone_before_a_push_stops_all_ranks_with_its_name_and_a_checkpoint(tmp_path):
    said, other = scripted(tmp_path, SERVER_DIES, *SMALL, "engine.zero_stage=3", "tracking.mlflow=null")
    assert said == other
    assert said.startswith("no vLLM server answers at URL/start_weight_update (ConnectionError); start one ")
    assert "at step 3, from its checkpoint" in said
    assert newest_step(tmp_path / "run" / "checkpoints") == 3
