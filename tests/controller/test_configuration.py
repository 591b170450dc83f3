"""Configuration: whatever does not fit gets one sentence that says what was wrong, what was given and what to write."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from entrostat import ControlConfig, EntropyController, InputError
from entrostat.inputs.configuration import parse, read_yaml
from entrostat.loop.config import optional_control, read_control
from entrostat.trainer.config import load_config

EXAMPLES = Path(__file__).parents[2] / "examples"
TARGET = {"type": "constant", "value": 0.6}
CONSTANT = "target: {type: constant, value: 0.6}\n"


def sentence(call, *arguments):
    """The message of the InputError that `call` ends in; it must be a single sentence."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]*[^.?!\s][.?]", message), message
    assert not re.search(r"[.?!] +[A-Z`]", message), message
    return message


# (content, what the sentence names: the key, the value given, the remedy)
BAD = {
    "unknown key": ({"targt": TARGET}, ["unknown key `targt`", "did you mean `target`?"]),
    "unknown key, nothing like it": ({"xyz": 1}, ["`xyz`", "write one of: target, law, actuator, surrogate"]),
    "unknown key within": (
        {"target": TARGET, "law": {"type": "pid", "kpp": 1}},
        ["`law`", "unknown key `kpp`", "did you mean `kp`?"],
    ),
    "unknown key in a target": ({"target": TARGET | {"valu": 1}}, ["`target`", "`valu`", "did you mean `value`?"]),
    "key that is no text": ({"target": TARGET, 5: 1}, ["unknown key `5`", "write one of: target"]),
    "text for a number": ({"target": {"type": "constant", "value": "high"}}, ["`target.value`", "'high'", "number"]),
    "list for a number": ({"target": TARGET, "law": {"type": "pid", "ki": [1]}}, ["`law.ki`", "[1]", "number"]),
    "truth for a number": (
        {"target": TARGET, "law": {"type": "pid", "kp": True}},
        ["`law`", "`kp` is True", "write a number"],
    ),
    "number for a mapping": ({"target": 5}, ["`target` is 5, not a mapping", "write `key: value` pairs"]),
    "nothing for a mapping": ({"target": TARGET, "law": None}, ["`law` is None, not a mapping", "leave it out"]),
    "name for a mapping": ({"target": TARGET, "law": "pid"}, ["`law` is 'pid'", "write `law: {type: pid}`"]),
    "number for a block": ({"target": TARGET, "measurement": 0.5}, ["`measurement` is 0.5, not a mapping"]),
    "missing key": ({"target": {"type": "constant"}}, ["`target.value` is missing", "add it"]),
    "missing type": ({"target": {"value": 0.6}}, ["`target.type` is missing", "say which kind of target"]),
    "unknown type": ({"target": {"type": "flat"}}, ["`target.type`", "'flat'", "write one of: constant, linear"]),
    "unknown law": (
        {"target": TARGET, "law": {"type": "pdi"}},
        ["`law.type`", "'pdi'", "write one of: pid, adaptive, manual"],
    ),
    "unknown choice": (
        {"target": TARGET, "surrogate": {"form": "soft"}},
        ["`surrogate.form`", "'soft'", "'clip' or 'gradient_preserving'"],
    ),
    "below its range": ({"target": TARGET, "law": {"type": "pid", "kp": -1}}, ["`law.kp`", "-1", "greater than or"]),
    "above its range": ({"target": TARGET, "law": {"type": "manual", "command": 20}}, ["`law.command`", "20", "less"]),
    "not a number": ({"target": TARGET, "law": {"type": "pid", "kp": float("nan")}}, ["`law.kp`", "nan", "finite"]),
    "infinite": ({"target": TARGET, "actuator": {"type": "static", "high": float("inf")}}, ["`actuator.high`", "inf"]),
    "wrong size": (
        {"target": {"type": "table", "points": [[0, 1, 2], [3, 4]]}},
        ["`target.points.0`", "[0, 1, 2]", "at most 2 items"],
    ),
    "inner value": (
        {"target": TARGET, "law": {"type": "pid", "feedforward": {"gain": 0}}},
        ["`law.feedforward.gain`", "0", "greater than or equal to 0.00001"],
    ),
    "no target to follow": (
        {"law": {"type": "pid"}},
        ["law `pid` follows a target and none is given", "add `target:`"],
    ),
    "huge text": ({"target": {"type": "constant", "value": "x" * 10**6}}, ["`target.value`", "'xxx", "..."]),
}
# What the file itself can do wrong.
BAD_FILES = {
    "unclosed bracket": ("target: [1", ["not valid YAML", "line 1"]),
    "two colons": (CONSTANT + "law: type: pid\n", ["not valid YAML", "line 2"]),
    "tab": ("target:\n\ttype: constant\n", ["not valid YAML", "line 2"]),
    "zero byte": ("target: \x00", ["not valid YAML"]),
    "two documents": (CONSTANT + "---\n" + CONSTANT, ["not valid YAML"]),
    "sentences in a broken text": ("target: 'One. Two? Three! And no end", ["not valid YAML", "line 1"]),
    "impossible date": (CONSTANT + "law: 2024-13-45\n", ["not valid YAML", "month"]),
    "Python object": (CONSTANT + "law: !!python/object/apply:os.getcwd []\n", ["not valid YAML", "python/object"]),
    "undefined alias": ("target: *nothing\n", ["not valid YAML", "nothing"]),
    "unhashable key": ("? [1, 2]\n: 3\n", ["not valid YAML"]),
    "deep nesting": ("[" * 20_000, ["not valid YAML"]),
    "endless number": (CONSTANT + "law: " + "9" * 5000, ["not valid YAML"]),
    "huge number": (CONSTANT + "law: {type: pid, kp: 0x" + "f" * 5000 + "}\n", ["`law.kp`", "a very long int"]),
    "list": ("- 1\n- 2\n", ["holds a list, not a mapping", "write `key: value` lines"]),
    "number": ("5", ["not a mapping"]),
    "empty": ("", ["empty", "write `key: value` lines"]),
    "key twice": (
        CONSTANT + "law:\n  type: pid\n  kp: 3\n  ki: 0.1\n  kp: 30\n",
        ["the key `kp` on line 4 and again on line 6", "keep one of the two"],
    ),
    "key twice on top": (CONSTANT + CONSTANT, ["the key `target` on line 1 and again on line 2"]),
    "key twice on a line": ("target: {type: constant, value: 0.6, value: 0.7}\n", ["`value` twice on line 1"]),
    "key twice in two spellings": (CONSTANT + 'law: {type: pid, kp: 1, "kp": 2}\n', ["`kp` twice on line 2"]),
    "key twice within a merge": ("target: {<<: {value: 0.6, value: 0.7}, type: constant}\n", ["`value` twice"]),
    "itself": ("target: &t {type: constant, value: *t}\n", ["not valid YAML", "alias"]),
}


def controller_of(content):
    return EntropyController(parse(ControlConfig, content))


@pytest.mark.parametrize(("content", "parts"), BAD.values(), ids=BAD.keys())
def test_bad_content_gets_one_sentence(content, parts):
    message = sentence(controller_of, content)
    assert all(part in message for part in parts), message
    assert len(message) < 300


@pytest.mark.parametrize(("content", "parts"), BAD.values(), ids=BAD.keys())
def test_bad_content_gets_the_same_sentence_where_the_pages_have_it_checked(content, parts):
    message = sentence(lambda: EntropyController(ControlConfig.model_validate(content)))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("content", "parts"), BAD.values(), ids=BAD.keys())
def test_bad_content_of_a_file_gets_the_same_sentence(content, parts, tmp_path):
    path = tmp_path / "control.yaml"
    path.write_text(yaml.safe_dump(content))
    message = sentence(EntropyController.from_yaml, path)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(("text", "parts"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_file_that_is_no_configuration_gets_one_sentence(text, parts, tmp_path):
    path = tmp_path / "control.yaml"
    path.write_text(text)
    message = sentence(EntropyController.from_yaml, path)
    assert message.startswith(str(path))
    assert all(part in message for part in parts), message
    assert len(message) < 300 + len(str(path))


def test_a_missing_file_gets_one_sentence(tmp_path):
    message = sentence(EntropyController.from_yaml, tmp_path / "control.yaml")
    assert message == f"cannot read {tmp_path}/control.yaml (No such file or directory); give the path of a YAML file."


def test_a_directory_gets_one_sentence(tmp_path):
    assert "(a directory)" in sentence(EntropyController.from_yaml, tmp_path)


def test_a_path_that_no_file_can_have_gets_one_sentence():
    sentence(EntropyController.from_yaml, "a\0b")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "control.yaml"
    path.write_text(CONSTANT + "# a comment\n" * 100_000)
    assert "larger than 1048576 bytes" in sentence(EntropyController.from_yaml, path)


def test_bytes_that_are_no_text_get_one_sentence(tmp_path):
    path = tmp_path / "control.yaml"
    path.write_bytes(b"target: \xff\xfe\n")
    assert "not valid YAML" in sentence(EntropyController.from_yaml, path)


def doubling(first, item):
    """Nine levels, each ten times the one before: a thousand million values if unfolded."""
    levels = [f"a0: &a0 {first}"]
    levels += [f"a{n}: &a{n} " + item(", ".join([f"*a{n - 1}"] * 10)) for n in range(1, 10)]
    return "\n".join(levels) + "\n"


BOMBS = {
    "lists": doubling("[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", lambda aliases: f"[{aliases}]"),
    "merge keys": doubling("{k: 1}", lambda aliases: f"{{<<: [{aliases}]}}"),
}
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
from entrostat import EntropyController, InputError
try:
    EntropyController.from_yaml(sys.argv[1])
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_yaml_bomb_is_refused_before_it_unfolds(bomb, tmp_path):
    path = tmp_path / "control.yaml"
    path.write_text(CONSTANT + bomb)
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"{path} is not valid YAML"), done.stderr[-500:]
    assert done.stdout.count("\n") == 1


def test_a_nested_value_is_quoted_in_short():
    bomb = [1] * 10
    for _ in range(9):
        bomb = [bomb] * 10
    message = sentence(controller_of, {"target": TARGET, "law": {"type": "pid", "kp": bomb}})
    assert len(message) < 200


def test_an_alias_may_stand_for_a_single_value(tmp_path):
    path = tmp_path / "control.yaml"
    path.write_text("target: {type: linear, start: &h 0.9, end: *h, steps: 10}\n")
    assert read_yaml(path)["target"]["end"] == 0.9


def test_numbers_in_the_notations_of_yaml_are_read(tmp_path):
    path = tmp_path / "control.yaml"
    path.write_text("target: {type: constant, value: 6e-1}\nlaw: {type: pid, kp: 2, ki: 1.0e-3}\n")
    config = EntropyController.from_yaml(path).config
    assert (config.target.value, config.law.kp, config.law.ki) == (0.6, 2.0, 0.001)


def test_a_configuration_survives_the_way_through_json():
    config = parse(ControlConfig, {"target": TARGET, "law": {"type": "pid", "feedforward": {"gain": 0.1}}})
    assert parse(ControlConfig, config.model_dump(mode="json")) == config


def test_an_empty_configuration_needs_a_target_and_nothing_else():
    config = parse(ControlConfig, {"target": TARGET})
    assert (config.law.type, config.actuator.type, config.surrogate.form) == ("adaptive", "balanced_bonus", "clip")


def test_content_that_is_no_mapping_gets_one_sentence():
    assert "[1, 2]" in sentence(parse, ControlConfig, [1, 2])


@pytest.mark.parametrize(
    ("override", "parts"),
    {
        "control.law={type: pid, kp: 1, kp: 2}": ["the key `kp` twice on line 1", "keep one of the two"],
        "control.law=2024-13-45": ["not valid YAML", "month", "quote the value"],
        "control.law={": ["not valid YAML", "quote the value"],
    }.items(),
)
def test_an_override_is_read_as_strictly_as_a_file(override, parts):
    message = sentence(load_config, EXAMPLES / "controlled.yaml", [override])
    assert all(part in message for part in parts), message


def test_a_control_below_a_runs_key_is_told_to_stand_alone(tmp_path):
    file = tmp_path / "control.yaml"
    file.write_text("control:\n  " + CONSTANT)
    message = sentence(EntropyController.from_yaml, file)
    assert "has its keys below `control`" in message
    assert "unknown key" not in message


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "control.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + CONSTANT.encode())
    assert read_yaml(path) == yaml.safe_load(CONSTANT)


def test_the_word_default_is_the_recommended_control_and_overrides_reach_into_it(tmp_path):
    (tmp_path / "run.yaml").write_text("control: default\n")
    control = load_config(tmp_path / "run.yaml", ["control.target.end=0.3"]).control
    assert (control.target.type, control.target.hold, control.target.end) == ("hold_then_anneal", 0.85, 0.3)
    assert (control.law.type, control.actuator.type) == ("adaptive", "balanced_bonus")


def test_the_log_says_the_recommended_control_as_a_line_of_yaml_that_can_be_copied(caplog):
    with caplog.at_level("INFO", logger="entrostat"):
        config = read_control(True)
    [line] = caplog.messages
    said = line.removeprefix("the recommended control: ")
    assert said.startswith("{target: {")
    assert parse(ControlConfig, yaml.safe_load(said)) == config


def test_what_is_no_control_is_refused():
    message = sentence(read_control, 3)
    assert message.startswith("entropy_control is a int; give True for the recommended control")


@pytest.mark.parametrize(("law", "actuator"), [("adaptive", "balanced_bonus"), ("pid", "sensitivity")])
def test_the_actuator_that_none_names_is_the_one_that_the_law_copes_with(law, actuator):
    config = parse(ControlConfig, {"target": {"type": "constant", "value": 0.6}, "law": {"type": law}})
    assert config.actuator.type == actuator
    assert "actuator" not in config.model_fields_set


@pytest.mark.parametrize("given", [None, False])
def test_a_trainer_that_is_given_no_control_has_none(given):
    assert optional_control(given) is None


@pytest.mark.parametrize("given", ["", 0, []])
def test_an_empty_control_is_refused_and_not_taken_for_none(given):
    with pytest.raises(InputError):
        optional_control(given)
