"""A law, an actuator, a task and a tracker of the user's own, in one file beside the command: a real run, resumed."""

import json
import shutil
import subprocess
import sys

import pytest

from entrostat.trainer.cli import main
from entrostat.trainer.config import dump_config, load_config
from tests.forks import entrostat, fork
from tests.runs import ENVIRONMENT, lines

PARTS = '''
import json
import math
from typing import Any

from entrostat import Actuation, Actuator, Law, Terms
from entrostat.trainer.tasks import CustomTask, Problem
from entrostat.trainer.tracker import CustomTracker


class Bang(Law):
    size: float = 0.5

    def start(self, command=0.0):
        return {"command": command}

    def take_over(self, state, reading):
        return state

    def step(self, state, reading, limits=None):
        demand = self.size if reading.measurement < reading.setpoint else -self.size
        terms = Terms(demand=demand).applied((limits or reading.reach).nearest(demand))
        return terms, {"command": terms.command}


class Upper(Actuator):
    def actuate(self, command, batch):
        def rule(tokens, advantages, logprob):
            low = advantages.new_full(advantages.shape, 0.25)
            return low, low + 0.1 * command

        return Actuation(change=math.nan, rule=rule)


class Digit(CustomTask):
    """An answer with the prompt's last digit in it, `value` points."""

    value: float = 1.0

    def sample(self, count, generator, split):
        numbers = range(100) if split == "train" else range(100, 150)
        return [Problem(f"{number}:{number % 10}", str(number % 10)) for number in generator.sample(numbers, count)]

    def reward(self, problem, answer):
        return self.value * (problem.data in answer)


class Lines(CustomTracker):
    file: str = "steps.jsonl"
    _path: Any = None

    def connect(self, folder):
        self._path = folder / self.file
        held = self._path.read_text().splitlines() if self._path.exists() else []
        return json.loads(held[-1])["step"] if held else -1

    def send(self, rows):
        with self._path.open("a") as file:
            file.writelines(json.dumps(row) + "\\n" for row in rows)

    def end(self, status):
        with (self._path.parent / "ends").open("a") as file:
            print(status, file=file)


class Unfinished(CustomTask):
    def reward(self, problem, answer):
        return 0.0
'''
CONFIG = """
steps: 2
task: {type: custom, import_path: my_parts:Digit, value: 0.25}
rollout: {prompts: 8, responses_per_prompt: 4, max_new_tokens: 6}
update: {minibatches: 2}
control:
  target: {type: constant, value: 2.5}
  law: {type: custom, import_path: my_parts:Bang, size: 0.3}
  actuator: {type: custom, import_path: my_parts:Upper}
evaluation: {every: 100, prompts: 8, samples: 8}
checkpoint: {every: 1}
tracking: {mlflow: null, snapshots: 0, custom: {import_path: my_parts:Lines, file: own.jsonl}}
engine: {threads: 1}
"""


def train(folder):
    """The command as installed: Python adds no folder to the import path."""
    command = [sys.executable, "-P", "-m", "entrostat.trainer.cli", "train", "run.yaml", "--out", "out"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder of a run of two steps that is resumed from its first, to three."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_parts.py").write_text(PARTS)
    (folder / "run.yaml").write_text(CONFIG)
    train(folder)
    newest = max((folder / "out" / "checkpoints").iterdir())
    shutil.rmtree(newest)
    resumed = fork(folder / "log", entrostat, "train", "--resume", "out", "steps=3", folder=folder)
    resumed.join()
    assert resumed.exitcode == 0, (folder / "log").read_text()[-2000:]
    return folder / "out"


def test_law_actuator_and_task_of_ones_own_train(out):
    rows = lines(out)
    assert [row["controller/command"] for row in rows] == [0.3] * 3
    for row in rows:
        assert row["threshold/low_mean"] == pytest.approx(0.25)
        assert row["threshold/high_mean"] == pytest.approx(0.28)
        assert 0 < row["reward/mean"] < 0.25


def test_an_evaluation_asks_the_task_for_held_out_problems(out):
    assert 0 < lines(out)[-1]["eval/pass_at_8"] <= 1


def test_a_tracker_of_ones_own_gets_every_step_once_over_a_resume(out):
    got = [json.loads(line) for line in (out / "own.jsonl").read_text().splitlines()]
    assert [row["step"] for row in got] == [0, 1, 2]
    for row, kept in zip(got, lines(out), strict=True):
        assert kept.items() <= row.items()
    assert (out / "ends").read_text().split() == ["FINISHED", "FINISHED"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that holds the parts and a run's YAML, the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "my_parts.py").write_text(PARTS)
    (tmp_path / "broken.py").write_text("class Digit(:\n")
    (tmp_path / "run.yaml").write_text(CONFIG)
    yield tmp_path
    sys.modules.pop("my_parts", None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task={type: custom}", "`task`: `import_path` is None; write `package.module:Class`"),
        ("task={type: custom, import_path: nowhere:Digit}", "cannot be imported (ModuleNotFoundError"),
        ("task={type: custom, import_path: broken:Digit}", "cannot be imported (SyntaxError"),
        ("task={type: custom, import_path: my_parts:Bang}", "no subclass of CustomTask"),
        ("task={type: custom, import_path: my_parts:Unfinished}", "lacks methods of CustomTask; write `sample`"),
        ("task={type: custom, import_path: my_parts:Digit, values: 1}", "did you mean `value`?"),
        ("tracking.custom={}", "`tracking.custom`: `import_path` is None"),
        ("tracking.custom={import_path: my_parts:Digit}", "no subclass of CustomTracker"),
        ("tracking.custom={import_path: my_parts:Lines, file: 3}", "`file` is 3"),
        ("tracking.custom={type: mlflow}", "`tracking.custom.type` is 'mlflow'"),
        ("control.law={type: custom, import_path: my_parts:Lines}", "no subclass of Law"),
    ],
)
def test_what_does_not_fit_is_one_sentence(here, capsys, override, words):
    assert main(["train", "run.yaml", override, "--out", "out"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said
    assert said.endswith((".", "?"))


def test_the_configuration_is_written_back_as_it_was_given(here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    config = load_config("run.yaml")
    (here / "config.yaml").write_text(dump_config(config))
    assert load_config("config.yaml") == config
    written = config.model_dump(mode="json")
    assert written["task"] == {"type": "custom", "import_path": "my_parts:Digit", "value": 0.25}
    assert written["tracking"]["custom"] == {"type": "custom", "import_path": "my_parts:Lines", "file": "own.jsonl"}
