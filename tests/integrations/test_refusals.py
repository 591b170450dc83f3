"""A host whose own loss has no entropy bonus: which actuator it takes."""

import logging

import pytest

from entrostat import ControlConfig
from entrostat.inputs.configuration import parse
from entrostat.integrations.shared.environment import VARIABLE, configured
from entrostat.integrations.shared.refusals import of_configuration, without_bonus
from entrostat.laws import Adaptive
from entrostat.loop.config import read_control

TARGET = {"target": {"type": "constant", "value": 0.6}}


def said(caplog):
    return [record.getMessage() for record in caplog.records if "no entropy bonus" in record.getMessage()]


def test_a_host_without_a_bonus_takes_thresholds_where_no_actuator_is_named_and_says_so_once(caplog):
    config = parse(ControlConfig, TARGET)
    with caplog.at_level(logging.INFO, "entrostat"):
        taken = without_bonus(config)
        assert without_bonus(taken) == taken
    assert (config.actuator.type, taken.actuator.type) == ("balanced_bonus", "sensitivity")
    assert of_configuration(config)
    assert not of_configuration(taken)
    assert len(said(caplog)) == 1
    assert "`sensitivity`" in said(caplog)[0]


@pytest.mark.parametrize("name", ["region", "sensitivity", "balanced_bonus"])
def test_an_actuator_that_is_named_stays_and_nothing_is_said(name, caplog):
    config = parse(ControlConfig, TARGET | {"actuator": {"type": name}})
    with caplog.at_level(logging.INFO, "entrostat"):
        assert without_bonus(config) is config
    assert not said(caplog)


@pytest.mark.parametrize("surrogate", [{"ratio_limit": 3}, {"form": "gradient_preserving"}])
def test_a_surrogate_of_ones_own_is_refused_only_where_the_loss_is_the_hosts(surrogate):
    config = parse(ControlConfig, TARGET | {"actuator": {"type": "sensitivity"}, "surrogate": surrogate})
    (sentence,) = of_configuration(config)
    assert f"`surrogate.{next(iter(surrogate))}`" in sentence
    assert not of_configuration(config, own_loss=True)


def test_a_guard_that_stops_the_run_is_refused_where_the_host_cannot_end_it():
    config = parse(ControlConfig, TARGET | {"actuator": {"type": "sensitivity"}, "guard": {"action": "stop"}})
    (sentence,) = of_configuration(config)
    assert sentence == (
        "`guard.action` is stop, and this host cannot end its run with a checkpoint; write `action: warn`, `hold` or "
        "`static`."
    )
    assert not of_configuration(config, stops=True)


def test_a_target_alone_is_followed_by_the_adaptive_law_however_a_host_is_told(tmp_path, monkeypatch):
    path = tmp_path / "control.yaml"
    path.write_text("target: {type: constant, value: 0.55}\n")
    monkeypatch.setenv(VARIABLE, str(path))
    for config in (
        configured(),
        read_control(str(path)),
        read_control({"target": {"type": "constant", "value": 0.55}}),
    ):
        assert isinstance(config.law, Adaptive)


def test_a_host_that_is_told_by_a_variable_finds_the_target_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "curve.yaml").write_text("type: constant\nvalue: 0.55\n")
    (tmp_path / "control.yaml").write_text("target: curve.yaml\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "control.yaml"))
    assert configured().target.value == 0.55


def test_default_is_the_recommended_control_in_the_variable_too(monkeypatch):
    monkeypatch.setenv(VARIABLE, "default")
    assert configured(bonus=True) == read_control(True)
