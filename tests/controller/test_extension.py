"""A law or an actuator of the user's own, named by its import path in a configuration."""

import sys
from textwrap import dedent

import pytest
import torch

from entrostat import ControlConfig, EntropyController, InputError
from entrostat.inputs.configuration import parse
from tests.batches import controller, random_batch

MODULE = '''
from dataclasses import replace
from typing import Literal

from entrostat import Actuation, Actuator, Law, Terms
from entrostat.actuators.static import Static


class Bang(Law):
    """Full steps up and down."""

    type: Literal["bang"] = "bang"
    size: float = 0.5

    def start(self, command=0.0):
        return {"command": command}

    def take_over(self, state, reading):
        return state

    def step(self, state, reading, limits=None):
        limits, demand = limits or reading.reach, self.size if reading.measurement < reading.setpoint else -self.size
        terms = Terms(demand=demand).applied(limits.nearest(demand))
        return terms, {"command": terms.command}


class Again(Bang):
    def start(self, command=0.0):
        return {"command": command, "steps": 0}


class Wider(Actuator):
    """An upper threshold that the command widens."""

    type: Literal["wider"] = "wider"

    def actuate(self, command, batch):
        return Static(high=0.2 + 0.1 * command).actuate(0.0, batch)


class Other:
    pass
'''
LAW = {"type": "custom", "import_path": "users_module:Bang", "size": 0.3}
ACTUATOR = {"type": "custom", "import_path": "users_module:Wider"}


@pytest.fixture(autouse=True)
def _users_module(tmp_path, monkeypatch):
    (tmp_path / "users_module.py").write_text(dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("users_module", None)


def test_a_law_and_an_actuator_of_ones_own_decide():
    batch = random_batch(0)
    decision = controller(target={"type": "constant", "value": 3.0}, law=LAW, actuator=ACTUATOR).step(*batch)
    assert decision.command == 0.3
    _, high = decision.thresholds(batch.tokens, batch.advantages[:, None].expand_as(batch.mask))
    assert torch.allclose(high, torch.tensor(0.23))


def test_they_are_written_back_as_they_were_given():
    config = controller(law=LAW, actuator=ACTUATOR).config
    written = config.model_dump(mode="json")
    assert (written["law"], written["actuator"]) == (LAW, ACTUATOR)
    assert parse(ControlConfig, written) == config


def test_their_state_is_saved_and_restored():
    control = controller(law=LAW)
    control.step_scalar(0.5)
    other = EntropyController(control.config)
    other.load_state_dict(control.state_dict())
    assert other.state_dict() == control.state_dict()


def test_the_state_of_another_law_of_ones_own_is_taken_over_without_a_bump():
    control = controller(law=LAW)
    control.step_scalar(0.5)
    other = controller(law=LAW | {"import_path": "users_module:Again"})
    other.load_state_dict(control.state_dict())
    assert other.state_dict()["law"]["command"] == control.state_dict()["law"]["command"]
    assert other.state_dict()["hand_over"]


@pytest.mark.parametrize(
    ("law", "words"),
    [
        ({"type": "custom"}, "write `package.module:Class`"),
        (LAW | {"import_path": "nowhere:Bang"}, "cannot be imported"),
        (LAW | {"import_path": "users_module:Missing"}, "cannot be imported"),
        (LAW | {"import_path": "users_module:Other"}, "no subclass of Law"),
        (LAW | {"sizes": 1}, "did you mean `size`"),
    ],
)
def test_what_does_not_fit_is_one_sentence(law, words):
    with pytest.raises(InputError, match=words) as caught:
        controller(law=law)
    assert "\n" not in str(caught.value)
