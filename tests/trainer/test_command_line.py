"""The command line itself: light, and helpful where it is mistyped."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from entrostat import InputError
from entrostat.trainer.cli import parsed
from entrostat.trainer.compare.suite import load_suite
from entrostat.trainer.config import load_config
from tests.readers import COMMANDS, help_examples
from tests.runs import ENVIRONMENT, ROOT, SMALL, entrostat, interrupted, lines, process, started

EXAMPLES = help_examples()


def test_help_imports_none_of_the_numeric_libraries():
    code = "import sys, entrostat.trainer.cli as c; c.parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "pydantic", "torch", "yaml"} & set(done.stdout.split())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_every_help_is_taken_as_written(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = parsed(shlex.split(EXAMPLES[name])[1:])
    if hasattr(options, "words"):
        source, *overrides = options.words
        load_config(source, overrides)
    if name == "regions":
        load_config(options.config)
    if name == "compare":
        load_suite(options.suite)


def test_the_version_is_told():
    assert process("--version").stdout.startswith("entrostat 0.")


@pytest.mark.parametrize(("word", "remedy"), [("tran", "did you mean `entrostat train`"), ("xyz", "write one of: tar")])
def test_a_mistyped_command_brings_the_one_that_was_meant(word, remedy):
    with pytest.raises(InputError, match=rf"no command `{word}`; {remedy}"):
        parsed([word, "--help"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--verson", "there is no option `--verson`; did you mean `entrostat --version`?"),
        ("report X --ot x", "there is no option `--ot`; did you mean `entrostat report --out`?"),
        ("simulate --contrl=C", "there is no option `--contrl`; did you mean `entrostat simulate --control`?"),
        ("train X --reusme=Y", "there is no option `--reusme`; did you mean `entrostat train --resume`?"),
        ("doctor xyz", "unrecognized arguments: xyz; see `entrostat doctor --help`."),
        ("doctor --xyz", "there is no option `--xyz`; see `entrostat doctor --help`."),
    ],
)
def test_a_mistyped_option_brings_the_one_that_was_meant(line, said):
    with pytest.raises(InputError) as refused:
        parsed(line.split())
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learning_rate=1e-4", "unknown key `learning_rate`; did you mean `update.learning_rate`?"),
        ("update.steps=3", "unknown key `update.steps`; did you mean `steps`?"),
        ("control.kp=3", "unknown key `control.kp`; did you mean `control.law.kp`?"),
        ("update.learning_rat=1", "`update`: unknown key `learning_rat`; did you mean `learning_rate`?"),
        (
            "control={target: {type: exponential, value: 1}}",
            "`control.target` of type exponential has no key `value`; write one of: unit, time, total, pace, start, "
            "end, steps, type.",
        ),
        (
            "control={law: {type: adaptive, kp: 1}}",
            "`control.law` of type adaptive has no key `kp`; write one of: type, effort, dead_band, limit, rate_limit.",
        ),
    ],
)
def test_a_key_at_the_wrong_depth_brings_the_place_where_it_is(override, said):
    with pytest.raises(InputError) as refused:
        load_config(ROOT / "examples" / "static.yaml", [override])
    assert str(refused.value).endswith(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train examples/static.yaml --out README.md", "README.md is no folder; give another --out."),
        ("target examples/controlled.yaml --out OUT/a.csv", "--out is OUT/a.csv; give a file that ends in .png."),
        ("target examples/controlled.yaml --out OUT/a.yaml", "--out is OUT/a.yaml; give a file that ends in .png."),
        ("simulate --control c --plant p --out OUT/p.csv", "--out is OUT/p.csv; give a file that ends in .png."),
        ("identify no-such.csv --out OUT/p.png", "--out is OUT/p.png; give a file that ends in .yaml."),
    ],
)
def test_a_file_of_another_kind_is_refused_before_anything_is_read(line, said, tmp_path):
    done = entrostat(*line.replace("OUT", str(tmp_path)).split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"entrostat: {said}\n".replace("OUT", str(tmp_path))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --resume nosuch", "nosuch holds no run to go on with; give the folder that `entrostat train` wrote."),
        ("identify nosuch.csv", "cannot read nosuch.csv (No such file or directory); give the path of a CSV of "),
        ("identify nosuch", "`nosuch` is no folder and no table here, and there is no MLflow store at sqlite:///"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing_and_nothing_is_made_of_it(line, said, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = entrostat(*line.split(), folder=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"entrostat: {said}")
    assert not [*tmp_path.iterdir()]


def test_a_run_that_is_to_go_on_in_another_folder_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.yaml").write_text("steps: 1\n")
    done = entrostat("train", "--resume", "a", "--out", "b", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "entrostat: train was given --resume a and --out b, and a run goes on in its own folder; write --resume alone, "
        "or CONFIG and --out OUT.\n"
    )
    assert [*tmp_path.iterdir()] == [tmp_path / "a"]


def test_a_reader_who_has_seen_enough_ends_it_quietly(tmp_path):
    command = [sys.executable, "-m", "entrostat.trainer.cli", "target", "examples/controlled.yaml", "--steps", "99999"]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout.readline() == "step,value\n"
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 141


BARE = """
import contextlib, io, json, shlex, sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Bare())
from entrostat.trainer.cli import main
done = {}
for line in LINES:
    code, out, said = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):  # of help
        code = main(shlex.split(line))
    loaded = sorted({"numpy", "scipy", "pydantic"} & {*sys.modules})
    done[line] = code, out.getvalue(), said.getvalue(), loaded
try:
    from entrostat import policy_loss
except ImportError as error:
    done["policy_loss"] = 1, "", str(error), []
print(json.dumps(done))
"""
HIDDEN = {
    *("torch", "transformers", "safetensors", "deepspeed", "accelerate", "mlflow", "rich", "psutil", "pandas"),
    *("matplotlib", "bokeh", "jinja2", "control", "shtab", "tensorboard", "wandb", "datasets", "math_verify", "trl"),
    *("tqdm", "optuna", "peft", "gguf"),
}
NEEDING = {
    "train examples/controlled.yaml --out OUT/run": "train",
    "tune --target examples/controlled.yaml --out OUT": "sim",
    "simulate --control examples/control.yaml --plant OUT/plant.yaml": "sim",
    "report docs/data/static --out OUT": "report",
    "watch docs/data/static": "report",
    "target --edit": "report",
    "target examples/controlled.yaml --out OUT/curve.png": "report",
    "plan examples/controlled.yaml": "train",
    "compare examples/compare.yaml --out OUT": "train",
    "search examples/static.yaml --runs 2 --out OUT": "train",
    "regions examples/regions.yaml --out OUT --runs OUT/runs": "train",
    "identify no-such-run --tracking-uri http://127.0.0.1": "train",
    "completion bash": "completion",
}
FREE = {
    "identify OUT/log.csv --lag 0.4 --noise 0.005 --out OUT/plant.yaml": {"numpy", "pydantic", "scipy"},
    "target examples/controlled.yaml": {"numpy", "pydantic"},
    "doctor": set(),
}
"""Command -> the slow libraries that it may load."""


def without_extras(lines, out):
    """Command -> code, output, errors and the slow libraries that are loaded by then.

    NumPy and SciPy are all that is installed beside the core's needs.
    """
    code = f"HIDDEN, LINES = {HIDDEN!r}, {[line.replace('OUT', str(out)) for line in lines]!r}\n{BARE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {line.replace(str(out), "OUT"): said for line, said in json.loads(done.stdout).items()}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The commands that need no extra, without any, each in a process of its own."""
    out = tmp_path_factory.mktemp("bare")
    (out / "log.csv").write_text(excited())
    return {name: said for line in FREE for name, said in without_extras([line], out).items()}


def excited() -> str:
    """A log of 70 steps whose command jumps between its ends."""
    entropy, lines = 0.9, ["step,entropy,command"]
    for step in range(70):
        command, noise = step // 7 % 2 * 2 - 1, (step * 7919) % 13 - 6
        lines.append(f"{step},{entropy + noise / 900:.4f},{command}")
        entropy += 0.03 * command - 0.001
    return "\n".join(lines)


def test_the_help_of_every_command_needs_no_extra_and_loads_no_slow_library(tmp_path):
    asked = ["--help", *(f"{name} --help" for name in COMMANDS)]
    told = without_extras(asked, tmp_path)
    assert [told[line][0] for line in asked] == [0] * len(asked)
    assert all(told[line][1].startswith("usage: entrostat") for line in asked)
    assert told[asked[-1]][3] == []  # by all of them


def test_every_command_is_tried_without_extras():
    assert {line.split()[0] for line in [*FREE, *NEEDING]} == set(COMMANDS)


@pytest.mark.parametrize(("line", "extra"), NEEDING.items())
def test_without_an_extra_one_sentence_names_it_before_a_slow_library_is_loaded(line, extra, tmp_path):
    code, _, said, loaded = without_extras([line], tmp_path)[line]
    assert (code, len(said.splitlines())) == (2, 1), said
    assert f"add it with `pip install -e '.[{extra}]'` in the clone." in said
    assert not {"scipy", "pydantic"} & {*loaded}


@pytest.mark.parametrize("line", FREE)
def test_fit_target_and_doctor_need_no_extra_and_load_no_library_that_they_do_not_use(line, bare):
    code, out, said, loaded = bare[line]
    assert code == 0, said
    assert out
    assert {*loaded} <= FREE[line]


def test_a_plant_is_fitted_without_the_picture_beside_it(bare):
    assert "plant.yaml (a picture beside it needs `pip install" in bare[next(iter(FREE))][1]


def test_a_name_that_needs_torch_says_so(bare):
    said = "`policy_loss` needs torch, which is not installed; add it with `pip install -e '.[torch]'` in the clone."
    assert bare["policy_loss"][2] == said


@pytest.mark.parametrize("words", [["target", "--edit"], ["watch", ROOT / "docs" / "data" / "static"]])
def test_pages_end_quietly(words, tmp_path):
    code, _, said = interrupted(words, "http://", tmp_path)
    assert (code, said) == (0, "")


def test_a_search_for_gains_ends_quietly_and_keeps_what_it_has(tmp_path):
    (tmp_path / "target.yaml").write_text("{type: linear, start: 0.9, end: 0.4, steps: 150}")
    journal = tmp_path / "tuned" / "search.jsonl"
    with started(["tune", "--target", "target.yaml"], tmp_path) as child:
        while child.poll() is None and not (journal.exists() and journal.read_text().count("\n") > 1):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60) == ("", "")
    assert child.returncode == 0
    assert journal.read_text().endswith("\n")


def test_a_run_ends_with_a_checkpoint_and_says_how_it_goes_on(tmp_path):
    words = ["train", *SMALL[:-1], "steps=40", "tracking.mlflow=null", "--out", tmp_path / "run"]
    code, _, said = interrupted(words, "entropy", ROOT)
    assert code == 130
    assert "ends after this step, with a checkpoint" in said
    step = int(re.search(r"interrupted after step (\d+), with a checkpoint; go on with", said)[1])
    assert said.rstrip().endswith(f"`entrostat train --resume {tmp_path / 'run'}`.")
    done = entrostat("train", "--resume", tmp_path / "run", f"steps={step + 2}")
    said = f"goes on at step {step + 1}, {step + 1} of {step + 2} done, from its checkpoint."
    assert done.stdout.startswith(f"{tmp_path / 'run'} {said}")
    assert [row["step"] for row in lines(tmp_path / "run")] == list(range(step + 2))
