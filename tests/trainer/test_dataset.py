"""Data sets in the formats of GSM8K, MATH and DAPO-Math-17k, read by the code that reads real ones; their rewards."""

import json
import os
import random
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("datasets")
pytest.importorskip("math_verify")

from entrostat.inputs.configuration import parse
from entrostat.inputs.errors import InputError
from entrostat.trainer.config import RunConfig
from entrostat.trainer.step.rewards import Overtime, time_limit
from entrostat.trainer.tasks import load_task
from entrostat.trainer.tasks.answers import boxed, final_answer
from entrostat.trainer.tasks.dataset import DatasetConfig
from entrostat.trainer.tasks.verifier import Verifier

DATA = Path(__file__).parents[1] / "data"


def task(dataset="custom", file=None, **keys):
    """A data set's task on one of the shipped files, of which the checksum holds none out."""
    keys = {"path": str(DATA / file), "heldout_percent": 1} | keys if file else keys
    return load_task(DatasetConfig(dataset=dataset, **keys))


def problems(task):
    return {p.data: p.prompt for p in task.sample(3, random.Random(0), "train")}


@pytest.mark.parametrize(
    ("dataset", "file", "gold", "prompt"),
    [
        ("gsm8k", "gsm8k.jsonl", {"7", "54", "80", "1,234"}, "step by step"),
        ("math", "math.jsonl", {"\\frac{1}{2}", "3", "24", "2\\sqrt{2}"}, "\\boxed{}"),
        ("dapo_math_17k", "dapo.jsonl", {"55", "2", "8"}, "Answer: $Answer"),
    ],
)
def test_the_formats_of_known_data_sets_are_read(dataset, file, gold, prompt):
    found = problems(task(dataset, file))
    assert set(found) <= gold
    assert all(prompt in text for text in found.values())


def test_a_prompt_that_occurs_twice_is_one_problem():
    with pytest.raises(InputError, match="has 3 prompts and 4 are wanted"):
        task("dapo_math_17k", "dapo.jsonl").sample(4, random.Random(0), "train")


def test_without_a_held_out_split_a_checksum_divides_the_prompts(tmp_path):
    rows = [{"prompt": f"{n} + 1 = ?", "answer": n + 1} for n in range(200)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    divided = task(path=str(tmp_path / "sums.jsonl"), heldout_percent=20)
    held, seen = (
        {p.prompt for p in divided.sample(n, random.Random(0), split)} for n, split in ((20, "heldout"), (120, "train"))
    )
    assert not held & seen


def test_what_is_held_out_is_not_trained_on(tmp_path):
    for name, numbers in (("train", range(40)), ("heldout", range(30, 50))):
        rows = [{"prompt": f"{n} + 1 = ?", "answer": n + 1} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    divided = task(path=str(tmp_path / "train.jsonl"), heldout=str(tmp_path / "heldout.jsonl"))
    assert len(divided.sample(30, random.Random(0), "train")) == 30
    with pytest.raises(InputError, match="has 30 prompts and 31 are wanted"):
        divided.sample(31, random.Random(0), "train")


def test_a_file_of_a_known_data_set_is_not_its_own_held_out_split(tmp_path):
    rows = [{"question": f"{n} + 1 = ?", "answer": f"#### {n + 1}"} for n in range(200)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    divided = task("gsm8k", path=str(tmp_path / "mine.jsonl"), heldout_percent=20)
    held, seen = (
        {p.prompt for p in divided.sample(n, random.Random(0), split)} for n, split in ((20, "heldout"), (120, "train"))
    )
    assert not held & seen


@pytest.mark.parametrize(
    ("answer", "gold", "reward"),
    [
        ("so the answer is \\boxed{\\frac{2}{4}}", "\\frac{1}{2}", 1),
        ("\\boxed{0.5}", "\\frac{1}{2}", 1),
        ("\\boxed{\\sqrt{8}}", "2\\sqrt{2}", 1),
        ("\\boxed{1234}", "1,234", 1),
        ("\\boxed{3}", "4", 0),
        ("Answer: 55", "55", 1),
        ("I do not know", "55", 0),
        ("", "55", 0),
        ("\\boxed{__import__('os').system('touch HERE')}", "3", 0),
    ],
)
def test_answers_are_compared_as_mathematics(verifier, answer, gold, reward):
    assert verifier("", answer, gold) == reward


@pytest.fixture(scope="module")
def verifier():
    verifier = Verifier(300.0)
    yield verifier
    verifier.close()


def test_an_answer_that_takes_too_long_is_wrong_and_the_next_one_is_judged(verifier):
    hurried = Verifier(0.5)
    hurried("", "\\boxed{1}", "2")  # the child is up
    start = time.monotonic()
    assert hurried("", "\\boxed{" + "9^{" * 6 + "9" + "}" * 6 + "}", "3") == 0
    assert time.monotonic() - start < 60  # it would take hours
    hurried._seconds = 300.0  # the next child may be slow: the machine may be busy
    assert hurried("", "\\boxed{\\frac{2}{4}}", "0.5") == 1
    hurried.close()


SLOW = "\\boxed{" + "+".join(f"\\frac{{{n}}}{{{n + 1}}}" for n in range(1, 1000)) + "}"
"""Takes seconds, and is judged in the end."""
TRUTH = [1, 0, 1, 0, 0, 1, 0, 1]
QUESTIONS = [(f"\\boxed{{\\frac{{{2 * n + 1}}}{{2}}}}", f"{n}.{5 if right else 7}") for n, right in enumerate(TRUTH)]


@contextmanager
def ctrl_c(seconds):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.cancel()
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("interruption", "error"), [(time_limit, Overtime), (ctrl_c, KeyboardInterrupt)])
def test_an_answer_that_is_cut_off_leaves_no_verdict_to_those_after_it(interruption, error):
    patient = Verifier(300.0)
    patient("", "\\boxed{1}", "2")  # the child is up
    with pytest.raises(error), interruption(0.1):
        patient("", SLOW, "3")
    assert [patient("", *question) for question in QUESTIONS] == TRUTH
    patient.close()


def test_a_verifier_that_is_cut_off_while_it_starts_answers_afterwards():
    patient = Verifier(300.0)
    with pytest.raises(Overtime), time_limit(0.01):
        patient("", "\\boxed{1}", "2")
    assert [patient("", *question) for question in QUESTIONS] == TRUTH
    patient.close()


def test_a_verdict_that_comes_late_is_not_taken_for_the_next_one():
    class Late(Verifier):
        """Left with a question, as by an interruption that nobody answered."""

        def _verdict(self, answer, gold):
            self._asked += 1
            self._pipe.send((self._asked, "\\boxed{5}", "7"))
            return super()._verdict(answer, gold)

    late = Late(300.0)
    assert [late("", *question) for question in QUESTIONS] == TRUTH
    late.close()


def ends_at_once(pipe):
    """A child without math-verify."""


def test_a_verifier_whose_child_does_not_start_says_so_instead_of_judging(monkeypatch):
    monkeypatch.setattr("entrostat.trainer.tasks.verifier._serve", ends_at_once)
    with pytest.raises(InputError, match="math-verify did not start"):
        Verifier(5.0)("", "\\boxed{1}", "2")


@pytest.mark.parametrize(("seconds", "reward", "fits"), [(10, "math", False), (9, "math", True), (10, "exact", True)])
def test_a_verifier_whose_limit_is_not_below_the_rewards_is_refused(seconds, reward, fits):
    content = {"task": {"dataset": "gsm8k", "seconds": seconds, "reward": reward}, "rollout": {"reward_seconds": 10}}
    if fits:
        assert parse(RunConfig, content).task.seconds == seconds
    else:
        with pytest.raises(InputError, match=r"write a `task\.seconds` below 10"):
            parse(RunConfig, content)


def test_a_family_whose_limit_is_not_below_the_rewards_is_refused():
    content = {"task": {"reasoning_gym": "chain_sum", "seconds": 10}, "rollout": {"reward_seconds": 10}}
    with pytest.raises(InputError, match=r"write a `task\.seconds` below 10"):
        parse(RunConfig, content)


def doubled(prompt, answer, right):
    return 2.0 * (answer == right)


def test_a_reward_function_of_your_own_is_imported_by_its_path():
    own = task("gsm8k", "gsm8k.jsonl", reward=f"{__name__}:doubled")
    (problem,) = own.sample(1, random.Random(0), "train")
    assert own.reward(problem, problem.data) == 2.0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"dataset": "gsm8k", "file": "math.jsonl"}, "has no column `question`"),
        ({"file": "gsm8k.jsonl", "prompt": "question", "answer": "label"}, "has no column `label` (it has `question`"),
        ({"file": "math.jsonl", "prompt": "problem", "answer": "level", "answer_in": "boxed"}, "row 0 of"),
        ({"file": "nowhere.jsonl"}, "there is no file"),
        ({}, "`task.path` is missing"),
        ({"file": "gsm8k.jsonl", "heldout": "test"}, "is a file, which has no splits; write a file"),
        ({"file": "gsm8k.jsonl", "prompt": "question", "answer": "question", "answer_in": "hashes"}, "has no answer"),
        ({"file": "gsm8k.jsonl", "reward": "nonsense:score"}, "cannot import the reward `nonsense:score`"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_the_run(keys, words):
    with pytest.raises(InputError) as refused:
        task(**keys)
    assert words in str(refused.value)


def test_a_template_without_its_prompt_is_refused():
    with pytest.raises(ValueError, match=r"no \{prompt\} in it"):
        RunConfig.model_validate({"task": {"dataset": "gsm8k", "template": "Solve it."}})


@pytest.mark.parametrize(
    ("text", "inside"),
    [("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"), ("\\boxed{1", None), ("none", None)],
)
def test_the_last_balanced_box_is_the_answer(text, inside):
    assert boxed(text) == inside


def test_the_final_answer_without_a_box_follows_its_mark():
    assert final_answer("thus\n#### 42") == "42"
    assert final_answer("thus\nAnswer: 42") == "42"
    assert final_answer(" 42 ") == "42"
