"""MLflow's address: a server that does not answer is told at once, before anything slow is imported."""

import socket
import subprocess
import sys
import time
from urllib.request import getproxies

import pytest

from entrostat.inputs.errors import InputError
from entrostat.trainer import address
from entrostat.trainer.address import check_answers, check_gives
from tests.runs import ENVIRONMENT, ROOT


@pytest.fixture
def silent():
    """A port whose queue is full: who connects waits."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        with socket.create_connection(server.getsockname()):
            yield server.getsockname()[1]


@pytest.fixture
def refused():
    """A port at which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]


COMMAND = """
import sys, time
from entrostat.trainer.cli import main
code = main(sys.argv[1:])
print(code, time.process_time(), *{"mlflow", "scipy", "bokeh"} & set(sys.modules))
"""
READ = """
import sys
from entrostat.trainer.tracking.mlflow.runs import load_mlflow
try:
    load_mlflow("x", sys.argv[1])
except ValueError as error:
    print(error, file=sys.stderr)
print(*{"mlflow"} & set(sys.modules))
"""
COMPARED = """
import sys
from entrostat.trainer.compare.parent import _start_parent
from entrostat.trainer.config import TrackingConfig
try:
    _start_parent(TrackingConfig(mlflow=sys.argv[1]), "suite")
except ValueError as error:
    print(error, file=sys.stderr)
print(*{"mlflow"} & set(sys.modules))
"""


def child(code, uri, *words):
    """The words that a process prints, and its errors."""
    environment = ENVIRONMENT | {"MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("server", "words"), [("refused", "identify x"), ("silent", "identify x"), ("refused", "target --edit --runs x")]
)
def test_a_server_that_does_not_answer_is_told_within_five_seconds_by_a_command_that_imported_little(
    server, words, request
):
    uri = f"http://127.0.0.1:{request.getfixturevalue(server)}"
    (code, seconds, *imported), said = child(COMMAND, uri, *words.split())
    assert (code, imported) == ("2", [])
    assert f"entrostat: MLflow at {uri} does not give `x` (" in said
    assert float(seconds) + address.PATIENCE < 5


@pytest.mark.parametrize(("code", "told"), [(READ, "does not give `x`"), (COMPARED, "does not answer")])
def test_mlflow_is_not_imported_to_learn_that_its_server_does_not_answer(refused, code, told):
    uri = f"http://127.0.0.1:{refused}"
    imported, said = child(code, uri, uri)
    assert imported == []
    assert f"MLflow at {uri} {told} (" in said


def test_an_address_of_no_port_is_told():
    with pytest.raises(InputError, match=r"MLflow at http://localhost:99999 does not give `x` \(Port out of range"):
        check_gives("x", "http://localhost:99999")


def places(*ports):
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]


def test_the_addresses_of_a_host_share_one_deadline(silent, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places(silent, silent, silent, silent))
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        check_answers("http://tracking")
    assert time.monotonic() - start < 2 * address.PATIENCE


def test_a_silent_or_refused_address_leaves_time_for_the_next(silent, refused, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = server.getsockname()[1]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places(silent, refused, answering))
        check_answers("http://tracking")


def test_a_model_of_a_hub_that_takes_no_connection_is_one_sentence_without_further_tries(refused, monkeypatch, caplog):
    from entrostat.trainer.policy.models import load_tokenizer

    for name in (*getproxies(), "all"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{refused}")
    with pytest.raises(InputError, match=r"^cannot load the model `nosuch`"):
        load_tokenizer("nosuch")
    assert caplog.messages == []
