"""The terminal during a run: one block where there is a terminal, plain lines where there is none."""

import io
import math
import re
from contextlib import closing

import pytest
from rich.console import Console

from entrostat.trainer.tracking.status import Status, bar, clock, sparks

STEP = {
    "actor/entropy": 0.8,
    "controller/setpoint": 0.85,
    "controller/error": 0.05,
    "controller/command": -0.5,
    "controller/command_low": -1.0,
    "controller/command_high": 1.0,
    "controller/saturated": 0.0,
    "threshold/low_mean": 0.1,
    "threshold/high_mean": 0.3,
    "clip_ratio/region_mean": 0.125,
    "reward/mean": 0.7,
}


def shown(terminal: bool, *steps: dict, width: int = 100) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with closing(Status(10, console=console)) as status:
        for step, metrics in enumerate(steps):
            status.show(step, metrics)
    return console.file.getvalue()


def test_without_a_terminal_there_is_a_plain_line_a_step() -> None:
    text = shown(False, STEP, STEP | {"eval/pass_at_1": 0.25, "eval/pass_at_8": 0.5})
    assert "\x1b" not in text
    first, second = text.splitlines()
    assert first.startswith("step    0  target 0.850  entropy 0.800  error +0.050  command -0.50")
    assert second.endswith("reward 0.700  pass_at_1 0.250 pass_at_8 0.500")


def test_a_terminal_has_one_block_with_everything_that_is_steered() -> None:
    text = shown(True, STEP, STEP | {"actor/entropy": 0.9})
    last = text[text.rindex("step 1, 2 of 10 done") :]
    assert all(
        word in last for word in ("0.900", "target 0.850", "▁█", "-0.50", "cut 12.5%", "eps_low 0.10", "0.700", "left")
    )


def test_a_bonus_stands_in_the_place_of_thresholds_that_do_not_move() -> None:
    text = shown(True, STEP | {"controller/bonus": -0.25})
    assert "bonus       -0.250  cut 12.5%" in text
    assert "eps_low" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_without_a_target_shows_none(terminal: bool) -> None:
    free = {name: value for name, value in STEP.items() if name not in ("controller/setpoint", "controller/error")}
    text = shown(terminal, free)
    assert "target" not in text
    assert "error" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_whose_entropy_was_not_measured_is_shown_too(terminal: bool) -> None:
    lost = {name: value for name, value in STEP.items() if name not in ("actor/entropy", "controller/error")}
    text = shown(terminal, lost)
    assert "nan" in text
    assert "command" in text


def test_the_remaining_time_follows_from_the_last_steps() -> None:
    ticks = iter([0.0, 2.0, 4.0])
    status = Status(10, console=Console(file=io.StringIO()), now=lambda: next(ticks))
    for step in (0, 1):
        status.show(step, STEP)
    assert status.remaining == 2.0 * 8


@pytest.mark.parametrize(
    ("command", "ends", "drawn"),
    [
        (0.0, (-1, 1), "··········|··········"),
        (1.0, (-1, 1), "··········|██████████"),
        (-0.5, (-1, 1), "·····█████|··········"),
        (math.nan, (-1, 1), "·" * 10 + "|" + "·" * 10),
        (-3.0, (-3, 1), "███████████████|·····"),
        (0.45, (-3, 1), "···············|██···"),
        (-0.5, (-10, 0), "···················█|"),
        (0.0, (0, 0), "··········|··········"),
        (2.5, (2, 3), "|██████████··········"),
        (-1.0, (-2, -1), "····················|"),
    ],
)
def test_the_bar_goes_from_nothing_to_the_command_between_its_ends(
    command: float, ends: tuple[float, float], drawn: str
) -> None:
    assert bar(command, *ends) == drawn


def test_the_block_says_where_the_ends_are() -> None:
    text = shown(True, STEP | {"controller/command": -2.0, "controller/command_low": -2.45})
    assert "-2.5 to 1" in text[text.rindex("command") :]


def test_sparks_run_from_the_lowest_to_the_highest_value() -> None:
    assert sparks([0.0, 0.5, 1.0, math.nan, 1.0]) == "▁▅█ █"


def test_equal_values_are_a_flat_line() -> None:
    assert sparks([2.0, 2.0]) == "▁▁"


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "0:05"), (65, "1:05"), (3700, "1:01:40")])
def test_time_is_told_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_terminal_and_none_is_cut(width: int) -> None:
    long = STEP | {"controller/command_low": -2.45, "controller/saturated": 1.0}
    text = shown(True, *[long | {"eval/pass_at_1": 0.25, "eval/pass_at_8": 0.5}] * 60, width=width)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text[text.rindex("step 59") :]).splitlines()
    assert len([line for line in last if line.strip()]) == 5
    assert max(map(len, last)) <= width
    assert "…" not in "".join(last)
