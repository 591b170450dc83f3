"""Families of reasoning-gym as tasks: their problems, splits and scores, and what does not fit."""

import json
import random
import time

import pytest

pytest.importorskip("reasoning_gym")

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import RunConfig, dump_config, load_config
from entrostat.trainer.loop import evaluation, train_step
from entrostat.trainer.run import open_session
from entrostat.trainer.tasks import load_task, passes
from entrostat.trainer.tasks.answers import first_line, tagged
from entrostat.trainer.tasks.reasoning import filled
from entrostat.trainer.tasks.scorer import Scorer
from tests.runs import SMALL

ONE_DIGIT = {"reasoning_gym": "chain_sum", "max_terms": 2, "max_digits": 1, "heldout": 50}
TWO = {"chain_sum": {"weight": 3}, "leg_counting": {}}


def config(content):
    return RunConfig.model_validate({"task": content}).task


@pytest.fixture(scope="module")
def opened():
    """Tasks by their content, each opened once."""
    kept = {}

    def task(**content):
        key = json.dumps(content)
        if key not in kept:
            kept[key] = load_task(config(content))
        return kept[key]

    yield task
    for task in kept.values():
        task._scorer.close()


def prompts(task, count, split, seed=0):
    return [problem.prompt for problem in task.sample(count, random.Random(seed), split)]


def test_a_family_by_name_takes_its_own_keys_beside_ours(opened):
    task = opened(**ONE_DIGIT)
    terms = [problem.data[1]["metadata"]["num_terms"] for problem in task.sample(20, random.Random(0), "train")]
    assert set(terms) == {2}
    assert len(prompts(task, 50, "heldout")) == 50


def test_held_out_problems_are_never_trained_on_however_few_there_are(opened):
    # one digit, two terms: 200 problems, so that any two draws of a hundred overlap
    task = opened(**ONE_DIGIT)
    assert not set(prompts(task, 50, "heldout")) & set(prompts(task, 140, "train"))


def test_a_batch_holds_every_prompt_once(opened):
    found = prompts(opened(**ONE_DIGIT), 100, "train")
    assert len(set(found)) == 100


def test_the_same_seed_gives_the_same_problems_and_another_one_others(opened):
    task = opened(reasoning_gym="chain_sum", heldout=20)
    assert prompts(task, 10, "train", 1) == prompts(task, 10, "train", 1)
    assert prompts(task, 10, "train", 1) != prompts(task, 10, "train", 2)
    other = opened(reasoning_gym="chain_sum", heldout=20, seed=1)
    assert not set(prompts(task, 20, "heldout")) & set(prompts(other, 20, "heldout"))


def test_several_families_come_by_their_weights(opened):
    task = opened(reasoning_gym=TWO)
    names = [problem.data[0] for problem in task.sample(400, random.Random(0), "train")]
    assert 300 - 4 * 75**0.5 < names.count("chain_sum") < 300 + 4 * 75**0.5  # binomial, four standard deviations


def test_every_family_scores_its_own_answers(opened):
    task = opened(reasoning_gym=TWO)
    for problem in task.sample(12, random.Random(0), "train"):
        right = problem.data[1]["answer"]
        assert task.reward(problem, right) == 1
        assert task.reward(problem, f"{int(right) + 1}") == 0


def test_a_score_between_0_and_1_is_a_reward_and_not_a_right_answer(opened):
    task = opened(**ONE_DIGIT)
    (problem,) = task.sample(1, random.Random(0), "train")
    right = problem.data[1]["answer"]
    partial = task.reward(problem, f"it is {right} I think")
    assert 0 < partial < 1
    assert not passes(task, partial)
    assert passes(task, task.reward(problem, right))


def test_any_reward_is_a_right_answer_for_a_task_that_says_no_more(opened):
    assert passes(load_task("expressions"), 0.1)
    assert not passes(load_task("expressions"), 0.0)


def test_a_template_takes_values_of_the_metadata_and_solved_problems_stand_before(opened):
    task = opened(**ONE_DIGIT, template="{expression} =", shots=2, answer_in="line")
    lines = prompts(task, 1, "train")[0].split("\n")
    assert len(lines) == 3
    for solved in lines[:2]:
        asked, _, answer = solved.partition(" = ")
        assert eval(asked) == int(answer)
    assert lines[2].endswith(" =")


def test_solved_problems_are_the_same_in_every_prompt_and_are_not_asked(opened):
    task = opened(**ONE_DIGIT, template="{expression} =", shots=2, answer_in="line")
    asked = prompts(task, 100, "train") + prompts(task, 50, "heldout")
    assert len({prompt.rpartition("\n")[0] for prompt in asked}) == 1
    shown = {line.partition(" =")[0] + " =" for line in asked[0].split("\n")[:2]}
    assert not shown & {prompt.rpartition("\n")[2] for prompt in asked}


@pytest.mark.parametrize(
    ("where", "answer", "read"),
    [
        ("line", " 7\n8 + 1 = 9", "7"),
        ("line", "\n\n7\n", "7"),
        ("tag", "<answer>3</answer> no: <answer> 7 </answer>", "7"),
        ("tag", "it is 7", ""),
        ("final", "so \\boxed{7}", "7"),
    ],
)
def test_the_answer_is_read_where_the_configuration_says(opened, where, answer, read):
    task = opened(**ONE_DIGIT, answer_in=where)
    (problem,) = task.sample(1, random.Random(0), "train")
    assert task.canonical(problem, answer) == read


def test_text_without_lines_or_tags_has_none():
    assert first_line("") == ""
    assert tagged("</answer>7<answer>") == ""


def test_only_known_names_in_braces_are_filled_in():
    assert filled("{a} {b} {{a}} \\boxed{}", {"a": "{b}", "b": 2}) == "{b} 2 {{b}} \\boxed{}"


def test_an_answer_that_takes_too_long_is_wrong_and_the_next_one_is_scored(opened):
    # spiral_matrix evaluates what looks like a list
    scorer = Scorer({"spiral_matrix": {"seed": 0, "size": 1}}, 1.0)
    entry = {"answer": "1 2 3", "metadata": {}}
    assert scorer("spiral_matrix", "1 2 3", entry) == 1
    start = time.monotonic()
    assert scorer("spiral_matrix", "[sum(range(10**12))]", entry) == 0
    assert time.monotonic() - start < 60
    assert scorer("spiral_matrix", "1 2 3", entry) == 1
    scorer.close()


def test_an_answer_that_ends_its_judge_is_wrong_and_the_next_one_is_scored():
    scorer = Scorer({"spiral_matrix": {"seed": 0, "size": 1}}, 1.0)
    entry = {"answer": "1 2 3", "metadata": {}}
    assert scorer("spiral_matrix", "[__import__('os')._exit(1)]", entry) == 0
    assert scorer("spiral_matrix", "1 2 3", entry) == 1
    scorer.close()


def test_an_answer_that_fills_the_memory_is_wrong():
    scorer = Scorer({"spiral_matrix": {"seed": 0, "size": 1}}, 20.0)
    entry = {"answer": "1 2 3", "metadata": {}}
    assert scorer("spiral_matrix", "['a' * 10**11]", entry) == 0
    scorer.close()


def test_an_interruption_leaves_no_score_to_the_next_answer():
    from entrostat.trainer.step.rewards import Overtime, time_limit

    scorer = Scorer({"spiral_matrix": {"seed": 0, "size": 1}}, 30.0)
    entry = {"answer": "1 2 3", "metadata": {}}
    scorer("spiral_matrix", "1 2 3", entry)  # the child is up
    with pytest.raises(Overtime), time_limit(0.2):
        scorer("spiral_matrix", "[__import__('time').sleep(2), 1, 2, 3]", entry)
    assert scorer("spiral_matrix", "1 2 3", entry) == 1
    scorer.close()


def test_what_a_family_cannot_score_is_wrong_and_told_once(caplog):
    scorer = Scorer({"chain_sum": {"seed": 0, "size": 1}}, 5.0)
    assert [scorer("chain_sum", "7", {"no": "answer"}) for _ in range(2)] == [0, 0]
    assert sum("cannot be scored" in record.message for record in caplog.records) == 1
    scorer.close()


def test_problems_that_depend_on_the_hash_seed_are_refused(monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with pytest.raises(InputError, match="PYTHONHASHSEED=0"):
        load_task(config({"reasoning_gym": "ransom_note", "heldout": 2}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"reasoning_gym": "chain_sums"}, "no 'chain_sums'; write one of its families, such as chain_sum"),
        ({"reasoning_gym": "chain_sum", "max_term": 3}, "unexpected keyword argument 'max_term'"),
        ({"reasoning_gym": "chain_sum", "min_terms": 0}, "min_terms must be positive"),
        (ONE_DIGIT | {"heldout": 300}, "different problems in 15000 draws and 300 are wanted"),
        (ONE_DIGIT | {"template": "Solve it."}, "put one of these in: {"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_the_run(content, words):
    with pytest.raises(InputError) as refused:
        load_task(config(content))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"reasoning_gym": {"chain_sum": {"weight": 0}}}, "the `weight` of chain_sum is 0"),
        ({"reasoning_gym": {"chain_sum": {"seed": 1}}}, "write it beside `reasoning_gym`"),
        ({"reasoning_gym": {"chain_sum": {}}, "heldouts": 1}, "did you mean `heldout`?"),
        ({"reasoning_gym": {}}, "reasoning_gym"),
        ({"datasett": "gsm8k"}, "did you mean `dataset`?"),
    ],
)
def test_what_does_not_fit_the_configuration_is_refused_with_it(content, words):
    with pytest.raises(ValueError, match="validation error") as refused:
        config(content)
    assert words in str(refused.value)


def test_the_resolved_configuration_loads_back_to_the_same_task(tmp_path):
    one = RunConfig.model_validate({"task": ONE_DIGIT})
    (tmp_path / "config.yaml").write_text(dump_config(one))
    assert load_config(tmp_path / "config.yaml") == one


def test_a_key_of_the_family_can_be_overridden():
    loaded = load_config(SMALL[0], ["task={reasoning_gym: chain_sum, max_terms: 2}", "task.max_digits=1"])
    assert loaded.task.reasoning_gym == {"chain_sum": {"max_terms": 2, "max_digits": 1}}


def test_a_run_trains_and_evaluates_on_families():
    # digits and signs are all that the shipped policy can write, and all that chain_sum's expressions need
    task = "task={reasoning_gym: chain_sum, max_terms: 2, max_digits: 1, template: '{expression}', heldout: 8}"
    session = open_session(load_config(SMALL[0], [*SMALL[1:], task]))
    row = train_step(session, 0)
    assert row["actor/grad_norm"] >= 0
    assert row["fault/reward_raised"] == row["fault/reward_hung"] == 0
    assert 0 <= evaluation(session, 1)["eval/pass_at_1"] <= 1
