"""The script that runs the documentation to the letter: what it hands a command, and which pages it takes."""

from tests.soak.letter import chosen, environment


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
    assert len(chosen()) > 15
