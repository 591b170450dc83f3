"""Readers of files give a value or one sentence, whatever the bytes."""

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrostat.inputs.errors import InputError
from entrostat.trainer.engine.checkpoint import load_checkpoint, newest_checkpoint
from tests.soak.readers import READERS

WORDS = [
    "target",
    "type",
    "constant",
    "value",
    "points",
    "law",
    "pid",
    "step",
    "command",
    "entropy",
    "version",
    "1e309",
]
PIECES = st.sampled_from(
    [*WORDS, ": ", "\n", "  ", "- ", ",", "{", "}", "[", "]", '"', "null", "NaN", "-1", "0.5", "&a", "*a"]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=8,
)
FILES = st.one_of(
    st.binary(max_size=200),
    st.lists(PIECES, max_size=40).map("".join).map(str.encode),
    TREES.map(lambda tree: (json.dumps(tree) + "\n").encode()),
)
LIMITS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("reader", READERS)
@LIMITS
@given(data=FILES)
def test_a_file_of_any_bytes_is_read_or_refused_in_a_sentence(tmp_path_factory, reader, data):
    assert "\n" not in refusal(lambda: READERS[reader](tmp_path_factory.getbasetemp(), data))


@LIMITS
@given(name=st.sampled_from(["state.json", "manifest.json", "policy.safetensors"]), data=FILES)
def test_a_checkpoint_of_any_bytes_is_loaded_or_refused_in_a_sentence(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("checkpoints") / "step00000001"
    folder.mkdir()
    files = {"state.json": b"{}", "policy.safetensors": b"", name: data}
    hashes = {file: sha256(content) for file, content in files.items() if file != "manifest.json"}
    for file, content in ({"manifest.json": json.dumps(hashes).encode()} | files).items():
        (folder / file).write_bytes(content)
    assert "\n" not in refusal(lambda: load_checkpoint(newest_checkpoint(folder.parent)))


def refusal(read):
    """The sentence; empty where there is none."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


def sha256(content):
    return hashlib.sha256(content).hexdigest()
