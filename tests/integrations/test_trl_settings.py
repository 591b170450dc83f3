"""What TRL's settings mean for control: one sentence each."""

import importlib
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import yaml
from packaging.specifiers import SpecifierSet

trl = pytest.importorskip("trl")

from entrostat import EntropyController, InputError  # noqa: E402
from entrostat.integrations.shared import hosts  # noqa: E402
from entrostat.integrations.shared.hosts import require  # noqa: E402
from entrostat.integrations.trl import EntropyCallback, RecordCallback  # noqa: E402
from entrostat.integrations.trl.form import Form  # noqa: E402
from entrostat.integrations.trl.settings import (  # noqa: E402
    check_settings,
    decisions,
    refusals,
    remarks,
    updates_to_come,
)
from entrostat.integrations.trl.versions import SUPPORTED, changed  # noqa: E402
from tests.integrations.trl_runs import control, small  # noqa: E402


def refused(config, args):
    return refusals(config, args, Form.of(("grpo",), args), bonus=True)


def arguments(**settings):
    usual = {"output_dir": "unused", "use_cpu": True, "bf16": False, "steps_per_generation": 4, "report_to": []}
    return trl.GRPOConfig(**usual | settings)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({"loss_type": "luspo"}, "write one of: grpo, dr_grpo, dapo, bnpo, cispo, sapo"),
        ({"loss_type": "cispo", "importance_sampling_level": "sequence"}, "importance_sampling_level='token'"),
    ],
)
def test_settings_that_leave_nothing_to_control_are_refused(setting, remedy):
    (sentence,) = refused(control(), arguments(**setting))
    assert remedy in sentence


# the oldest and the newest TRL differ in what there is to refuse; `make hosts` runs both
@pytest.mark.skipif(not hasattr(trl.GRPOTrainer, "compute_liger_loss"), reason="this TRL has no fused loss")
def test_a_fused_loss_is_refused():
    (sentence,) = refused(control(), arguments(use_liger_kernel=True))
    assert "set it to False" in sentence


# the oldest TRL has none; `make hosts` runs it
@pytest.mark.skipif(not hasattr(arguments(), "use_adaptive_entropy"), reason="this TRL has no adaptive entropy")
def test_a_second_controller_is_refused():
    (sentence,) = refused(control(), arguments(use_adaptive_entropy=True))
    assert "second controller" in sentence


# the oldest TRL has none; `make hosts` runs it
@pytest.mark.skipif(not hasattr(arguments(), "entropy_coef"), reason="this TRL has no entropy bonus")
def test_an_entropy_bonus_is_remarked_on():
    (sentence,) = remarks(control(), arguments(entropy_coef=0.01))
    assert "pushes the entropy up" in sentence


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ({"surrogate": {"form": "gradient_preserving"}}, "write `form: clip`"),
        ({"guard": {"kl_limit": 0.1}}, "remove it"),
        ({"actuator": {"type": "kl_cov"}}, "write `sensitivity`, `region` or `split_range`"),
    ],
)
def test_parts_of_the_configuration_that_trls_loss_cannot_have_are_refused(content, remedy):
    (sentence,) = refused(control(**content), arguments())
    assert remedy in sentence


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"beta": 0.04}, "beta=0.04"),
        ({"mask_truncated_completions": True}, "mask_truncated_completions"),
        ({"top_entropy_quantile": 0.2}, "on the 20% of the tokens that the loss keeps"),
        ({"top_p": 0.9}, "whole softmax at temperature 1.0"),
        ({"gradient_accumulation_steps": 4}, "acts one rollout late"),
    ],
)
def test_a_setting_that_works_against_the_loop_gets_one_sentence(setting, word):
    (sentence,) = remarks(control(), arguments(**setting))
    assert word in sentence
    assert sentence.count(". ") == 0


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ({"type": "adaptive"}, "one rollout late, which the adaptive law plans for; to act at once, write"),
        ({"type": "pid"}, "one rollout late; write `law: {type: adaptive}` or"),
    ],
)
def test_trls_own_default_of_one_step_a_rollout_is_said_at_the_start_with_its_remedy(law, said, caplog):
    settings = arguments(gradient_accumulation_steps=1, steps_per_generation=1)
    check_settings(control(law=law), settings, 16, Form.of(("grpo",), settings), bonus=True)
    (sentence,) = (record.getMessage() for record in caplog.records if record.name == "entrostat")
    assert sentence.startswith("entrostat: one optimizer step a rollout: ")
    assert sentence.endswith(f"{said} steps_per_generation=4 in the GRPOConfig.")


@pytest.mark.parametrize("generation", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("accumulation", [1, 2, 3, 4, 5, 12])
def test_the_updates_to_come_are_those_that_begin_on_a_rollouts_microbatches(generation, iterations, accumulation):
    args = SimpleNamespace(
        steps_per_generation=generation, num_iterations=iterations, gradient_accumulation_steps=accumulation
    )
    size = generation * iterations
    begins = [microbatch % accumulation == 0 for microbatch in range(30 * size)]
    for start in range(0, len(begins), size):
        count = sum(begins[start : start + size])
        assert updates_to_come(args, start % accumulation) == (count or None)


@pytest.mark.parametrize(("generation", "accumulation"), [(4, 1), (4, 2), (4, 3), (5, 3), (8, 5), (4, 12)])
def test_a_record_has_the_whole_number_nearest_to_the_mean_of_the_updates_to_come(tmp_path, generation, accumulation):
    args = SimpleNamespace(
        steps_per_generation=generation, num_iterations=1, gradient_accumulation_steps=accumulation, adam_beta1=0.9
    )
    loop = SimpleNamespace(controller=EntropyController(control()))
    RecordCallback(SimpleNamespace(entropy_loop=loop), tmp_path).on_train_begin(args, None, None)
    recorded = yaml.safe_load((tmp_path / "config.yaml").read_text())["update"]["epochs"]
    counts = [
        updates_to_come(args, start % accumulation) or 0 for start in range(0, generation * accumulation, generation)
    ]
    assert recorded == max(1, round(sum(counts) / len(counts)))


@pytest.mark.parametrize(
    ("accumulation", "setting", "measured_first", "expected"),
    [
        (8, {}, False, 6),
        (8, {}, True, 12),
        (8, {"use_vllm": True}, False, 12),
        (4, {}, False, 6),
        (6, {}, False, 9),
        (1, {}, False, 2),
    ],
)
def test_the_length_of_a_run_is_one_decision_an_optimizer_step_that_spans_several_rollouts_in_the_loss(
    accumulation, setting, measured_first, expected
):
    args = arguments(gradient_accumulation_steps=accumulation, **setting)
    assert decisions(args, 6, measured_first) == expected


def test_rloo_scores_each_rollout_of_an_optimizer_step_and_decides_on_each():
    args = trl.RLOOConfig(
        output_dir="unused", use_cpu=True, bf16=False, report_to=[], steps_per_generation=4,
        gradient_accumulation_steps=8,
    )  # fmt: skip
    assert decisions(args, 6) == 12


def test_a_rollout_that_is_divided_between_two_updates_has_ratios_of_its_own():
    assert not remarks(control(actuator={"type": "split_range"}), arguments(gradient_accumulation_steps=3))


def test_the_trainer_carries_out_the_guards_stop():
    assert not refused(control(guard={"action": "stop"}), arguments())


def test_usual_settings_need_no_remark():
    assert remarks(control(), arguments()) == refused(control(), arguments()) == []


def test_thresholds_without_authority_at_ratio_one_are_remarked_on():
    split = control(actuator={"type": "split_range"})
    assert any("cut no token" in sentence for sentence in remarks(split, arguments(gradient_accumulation_steps=4)))


def test_a_target_above_the_vocabularys_entropy_is_refused_at_the_start():
    with pytest.raises(InputError, match=r"above ln\(16\).*write a lower target"):
        check_settings(control(target={"type": "constant", "value": 3.0}), arguments(), 16, Form(), bonus=True)


def test_a_file_that_does_not_fit_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "control.yaml").write_text("target: {type: constant, vale: 0.6}\n")
    with pytest.raises(InputError, match="did you mean `value`"):
        small(tmp_path, tmp_path / "control.yaml")


def test_the_callback_wants_thresholds_that_are_scalars():
    with pytest.raises(InputError, match="write `split_range`, or use EntropyControlledGRPOTrainer"):
        EntropyCallback(None, control())


def test_the_installed_version_is_supported():
    assert require("trl", SUPPORTED) == version("trl")


def test_another_version_is_one_sentence():
    with pytest.raises(
        InputError,
        match=rf"trl {version('trl')} is installed and <0.9 is supported; install it with",
    ):
        require("trl", "<0.9")


def test_the_installed_trl_has_what_is_needed_of_it():
    assert changed() is None


def test_a_later_version_is_tried_and_refused_where_its_inside_has_changed(monkeypatch, caplog):
    older = "0.9"
    assert require("trl", SUPPORTED, older, changed) == version("trl")
    assert "what is needed of it is as it was" in caplog.text
    monkeypatch.setattr(trl.GRPOTrainer, "_compute_loss", lambda self, everything: None)
    with pytest.raises(InputError, match=r"later than the 0.9 that was tested, and GRPOTrainer._compute_loss is not"):
        require("trl", SUPPORTED, older, changed)


def test_a_later_version_whose_loss_reads_other_thresholds_is_refused(monkeypatch):
    def scalar(self, model, inputs):
        return inputs["old_logps"] * self.epsilon_low

    monkeypatch.setattr(trl.RLOOTrainer, "_compute_loss", scalar)
    with pytest.raises(InputError, match=r"and RLOOTrainer\._compute_loss does not read epsilon_high; install it with"):
        require("trl", SUPPORTED, "0.9", changed)


def test_a_trl_whose_asyncgrpo_is_another_is_one_sentence(monkeypatch):
    name = "entrostat.integrations.trl.async_grpo"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(hosts, "version", {"trl": "1.13.0"}.__getitem__)
    with pytest.raises(InputError, match=r"trl 1\.13\.0 is installed and >=1\.16\.0 is supported; install it with"):
        importlib.import_module(name)


def test_a_missing_host_is_one_sentence():
    with pytest.raises(InputError, match="no-such-host is not installed; install it with `pip install 'no-such"):
        require("no-such-host", ">=1")


@pytest.mark.parametrize(
    ("old", "supported"), [("0.29.1", False), ("1.0.0", True), ("1.14.2", False), ("1.16.0", True), ("1.21", True)]
)
def test_versions_with_another_inside_are_not_supported(old, supported):

    assert SpecifierSet(SUPPORTED).contains(old) == supported
