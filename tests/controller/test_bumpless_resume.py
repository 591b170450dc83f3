"""A state that is loaded under other gains or another target goes on from its command, as `reconfigure` does."""

import json

import pytest

from entrostat import ControlConfig, EntropyController
from entrostat.inputs.configuration import parse

BASE = {
    "target": {"type": "constant", "value": 0.6},
    "law": {"type": "pid", "kp": 3, "ki": 0.4},
    "actuator": {"type": "sensitivity"},
}
LATER = [0.55, 0.57, 0.52, 0.58, 0.6]


def begun(entropies=(0.5, 0.52, 0.55, 0.56, 0.58, 0.57, 0.55)):
    """A controller in the middle of a run, and its state as a checkpoint holds it."""
    control = EntropyController(parse(ControlConfig, BASE))
    for entropy in entropies:
        control.step_scalar(entropy, standard_error=0.01)
    return control, json.loads(json.dumps(control.state_dict()))


def commands(control, entropies=LATER):
    return [control.step_scalar(entropy, standard_error=0.01).command for entropy in entropies]


@pytest.mark.parametrize(
    "other",
    [
        {"law": BASE["law"] | {"kp": 9}},
        {"law": BASE["law"] | {"ki": 0.02}},
        {"law": BASE["law"] | {"error": "log"}},
        {"target": {"type": "constant", "value": 0.9}},
    ],
)
def test_other_gains_after_a_resume_do_not_bump_the_command(other):
    config = parse(ControlConfig, BASE | other)
    running, state = begun()
    before = state["law"]["command"]
    resumed = EntropyController(config)
    resumed.load_state_dict(state)
    running.reconfigure(config)
    got, expected = commands(resumed), commands(running)
    assert got == expected
    assert got[0] == pytest.approx(before)


@pytest.mark.parametrize("other", [{}, {"guard": {"action": "warn"}}, {"actuator": {"type": "split_range"}}])
def test_what_does_not_change_the_law_changes_nothing_of_its_state(other):
    running, state = begun()
    resumed = EntropyController(parse(ControlConfig, BASE | other))
    resumed.load_state_dict(state)
    assert resumed.state_dict()["law"] == state["law"]
    assert not resumed.state_dict()["hand_over"]
    if not other:
        assert commands(resumed) == commands(running)
