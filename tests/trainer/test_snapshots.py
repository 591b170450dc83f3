"""Snapshots: what a run keeps of the inside of a few steps."""

from pathlib import Path

import pytest

from entrostat.inputs.errors import InputError
from entrostat.trainer.config import load_config
from entrostat.trainer.loop import train_step
from entrostat.trainer.reporting.snapshots import read_snapshots
from entrostat.trainer.run import open_session
from entrostat.trainer.step.snapshots import Snapshots
from tests.runs import SMALL
from tests.trainer.made_runs import write_run


def trained(folder: Path, snapshots: int) -> list[str]:
    """The metrics of six small steps under clip thresholds, without the seconds, as text."""
    session = open_session(load_config(SMALL[0], [*SMALL[1:], "control.actuator={type: sensitivity}"]))
    session.on_step_end = Snapshots(folder, steps=6, count=snapshots, start=0, lead=True).take
    steps = [train_step(session, step) for step in range(6)]
    return [repr({name: value for name, value in step.items() if not name.startswith("time/")}) for step in steps]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, trained(folder, snapshots=3)


@pytest.fixture(scope="module")
def run(metrics: tuple[Path, list[str]]) -> Path:
    return metrics[0]


def test_a_run_keeps_as_many_as_it_was_asked_for_and_the_last_step(run: Path) -> None:
    assert [snapshot.step for snapshot in read_snapshots(run)] == [0, 2, 4, 5]


def test_tokens_lie_in_the_region_that_their_numbers_say(run: Path) -> None:
    tokens = read_snapshots(run)[0].tokens
    columns = zip(tokens.surprisal, tokens.entropy, tokens.advantage, tokens.region, strict=True)
    assert all(region == (1 if a > 0 else 3) + (s > h) for s, h, a, region in columns if abs(s - h) > 1e-3)
    assert len(tokens.region) > 20


def test_a_token_with_a_negative_threshold_is_cut(run: Path) -> None:
    tokens = read_snapshots(run)[0].tokens
    negative = [cut for cut, threshold in zip(tokens.cut, tokens.threshold, strict=True) if threshold < 0]
    assert negative
    assert all(negative)


def test_a_cut_token_is_beyond_its_threshold_at_the_first_or_the_last_minibatch(run: Path) -> None:
    tokens = read_snapshots(run)[1].tokens
    for a, eps, r, cut in zip(tokens.advantage, tokens.threshold, tokens.ratio, tokens.cut, strict=True):
        beyond = r > 1 + eps if a > 0 else r < 1 - eps
        assert bool(cut) == (beyond or eps < 0) or abs(abs(r - 1) - eps) < 1e-3


def test_the_chosen_point_lies_on_the_authority_curve(run: Path) -> None:
    authority = read_snapshots(run)[0].authority
    command, change = authority.chosen
    nearest = min(range(len(authority.command)), key=lambda i: abs(authority.command[i] - command))
    assert authority.change[nearest] == pytest.approx(change, abs=0.03 * max(authority.change))
    assert authority.change == sorted(authority.change)


def test_the_authority_curve_runs_from_one_end_of_the_batch_to_the_other(run: Path) -> None:
    authority = read_snapshots(run)[0].authority
    assert authority.command[0] < 0 < authority.command[-1]
    assert min(-authority.command[0], authority.command[-1]) == pytest.approx(1)  # the weaker side's
    unit = authority.change[0] / authority.command[0]
    assert authority.change[-1] == pytest.approx(unit * authority.command[-1], rel=1e-3)


def test_answers_are_told_token_by_token(run: Path) -> None:
    answer = read_snapshots(run)[0].answers[0]
    assert len(answer.tokens) == len(answer.region) == len(answer.cut) > 0


def test_a_run_without_snapshots_takes_the_same_steps(metrics: tuple[Path, list[str]], tmp_path: Path) -> None:
    assert trained(tmp_path, snapshots=0) == metrics[1]
    assert not (tmp_path / "snapshots.jsonl").exists()


def test_going_on_drops_the_snapshots_of_steps_that_are_done_again(tmp_path: Path) -> None:
    write_run(tmp_path / "run", steps=60)
    Snapshots(tmp_path / "run", steps=60, count=3, start=40, lead=True)
    assert [snapshot.step for snapshot in read_snapshots(tmp_path / "run")] == [0, 20]


def test_a_cut_off_last_line_is_dropped(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", steps=41) / "snapshots.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [snapshot.step for snapshot in read_snapshots(path.parent)] == [0, 20]


@pytest.mark.parametrize("bad", ["{}", "[]", "{oops", '{"step": -1}'])
def test_a_malformed_line_is_refused_with_its_number(tmp_path: Path, bad: str) -> None:
    path = write_run(tmp_path / "run", steps=21) / "snapshots.jsonl"
    path.write_text(path.read_text() + bad + "\n")
    with pytest.raises(InputError, match="line 3 of"):
        read_snapshots(path.parent)
