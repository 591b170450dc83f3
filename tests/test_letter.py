"""The script that runs the documentation to the letter: what it hands a command, and which pages it takes."""

import pytest

from tests.runs import ROOT
from tests.soak.letter import blocks, chosen, environment, succeeds, wanted
from tests.test_docs import PAGES


def test_an_installation_behind_a_mirror_gets_its_variables_and_no_others(tmp_path, monkeypatch):
    mirror = {"PIP_INDEX_URL": "https://mirror", "SSL_CERT_FILE": "own.pem", "REQUESTS_CA_BUNDLE": "own.pem"}
    for name, value in {**mirror, "PYTHONPATH": "elsewhere"}.items():
        monkeypatch.setenv(name, value)
    given = environment(tmp_path, quick=False)
    assert mirror.items() <= given.items()
    assert "PYTHONPATH" not in given
    assert given["PATH"].startswith(f"{tmp_path}/.venv/bin:")


def test_pages_run_apart_and_in_the_order_of_a_reader():
    assert [page.stem for page in chosen(["tune", "README"])] == ["README", "tune"]


def test_one_call_takes_readme_first_and_then_every_page():
    assert [page.stem for page in chosen()] == ["README", *(page.stem for page in PAGES if page.stem != "README")]


def test_only_what_needs_gpus_or_an_account_is_left_out():
    left = [block.note for page in chosen() for block in blocks(page, "bash") if block not in wanted(page, quick=False)]
    assert left
    assert [note for note in left if "GPUs" not in note and "account" not in note] == []


@pytest.mark.parametrize(
    ("command", "well"), [("entrostat watch docs/data", True), ("entrostat watch examples", False)]
)
def test_a_command_that_serves_is_interrupted_once_it_has_told_its_address(command, well, capsys):
    assert succeeds(command, ROOT, quick=True, serves=True) is well
    assert capsys.readouterr().out.startswith("ok" if well else "FAILED")
