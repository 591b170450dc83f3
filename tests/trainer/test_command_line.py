"""The command line itself: light, and helpful where it is mistyped."""

import argparse
import shlex
import subprocess
import sys

import pytest

from entrostat import InputError
from entrostat.trainer.cli import parsed, parser
from entrostat.trainer.config import load_config
from tests.runs import ENVIRONMENT, ROOT, entrostat

COMMANDS = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


def example(name: str) -> list[str]:
    """The words of the example in a command's help, behind `entrostat`."""
    line = COMMANDS[name].epilog.splitlines()[1].strip()
    return shlex.split(line.removeprefix('eval "$(').removesuffix(')"'))[1:]


def test_help_imports_none_of_the_numeric_libraries():
    code = "import sys, entrostat.trainer.cli as c; c.parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "pydantic", "torch", "yaml"} & set(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_every_help_is_taken_as_written(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = parsed(example(name))
    if hasattr(options, "words"):
        source, *overrides = options.words
        load_config(source, overrides)


def test_the_version_is_told():
    assert entrostat("--version").stdout.startswith("entrostat 0.")


@pytest.mark.parametrize(("word", "remedy"), [("tran", "did you mean `entrostat train`"), ("xyz", "write one of: tar")])
def test_a_mistyped_command_brings_the_one_that_was_meant(word, remedy):
    with pytest.raises(InputError, match=rf"no command `{word}`; {remedy}"):
        parsed([word, "--help"])


def test_a_reader_who_has_seen_enough_ends_it_quietly(tmp_path):
    command = [sys.executable, "-m", "entrostat.trainer.cli", "target", "examples/controlled.yaml", "--steps", "99999"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline() == "step,value\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


BARE = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Bare())
from entrostat.trainer.cli import main
sys.exit(main({words!r}))
"""
HIDDEN = {
    *("torch", "transformers", "safetensors", "deepspeed", "accelerate", "mlflow", "rich", "psutil", "pandas"),
    *("matplotlib", "bokeh", "jinja2", "control", "shtab", "tensorboard", "wandb", "datasets", "math_verify", "trl"),
}


def bare(folder, *words):
    """A command where NumPy and SciPy are all that is installed beside the core's own requirements."""
    code = BARE.format(hidden=HIDDEN, words=list(map(str, words)))
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("train examples/controlled.yaml --out OUT/run", "train"),
        ("tune --target examples/controlled.yaml --out OUT", "sim"),
        ("report docs/data/static --out OUT", "report"),
        ("watch docs/data/static", "report"),
        ("target --edit", "report"),
        ("target examples/controlled.yaml --out OUT/curve.png", "report"),
        ("plan examples/controlled.yaml", "train"),
        ("compare examples/compare.yaml --out OUT", "train"),
        ("regions examples/regions.yaml --out OUT --runs OUT/runs", "train"),
        ("completion bash", "completion"),
    ],
)
def test_without_an_extra_one_sentence_names_it(words, extra, tmp_path):
    done = bare(ROOT, *words.replace("OUT", str(tmp_path)).split())
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"`pip install -e '.[{extra}]'`" in done.stderr


def test_a_plant_is_fitted_without_matplotlib(tmp_path):
    rows = ((k, k // 7 % 2 * 2 - 1, (k * 7919) % 13 - 6) for k in range(70))
    entropy, lines = 0.9, ["step,entropy,command"]
    for step, command, noise in rows:
        lines.append(f"{step},{entropy + noise / 900:.4f},{command}")
        entropy += 0.03 * command - 0.001
    (tmp_path / "log.csv").write_text("\n".join(lines))
    done = bare(tmp_path, "identify", "log.csv", "--lag", "0.4", "--noise", "0.005")
    assert done.returncode == 0, done.stderr
    assert "plant.yaml (a picture beside it needs `pip install" in done.stdout


def test_a_name_that_needs_torch_says_so(tmp_path):
    code = BARE.split("from entrostat")[0].format(hidden=HIDDEN) + "from entrostat import policy_loss"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert said.endswith(
        "`policy_loss` needs torch, which is not installed; add it with `pip install -e '.[torch]'` in the clone."
    )
