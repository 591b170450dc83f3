"""Control inside Stable-Baselines3's own PPO."""

import copy
import json
import logging
import math
from contextlib import suppress
from itertools import chain

import numpy as np
import pytest
import torch

sb3 = pytest.importorskip("stable_baselines3")

from gymnasium import spaces  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback  # noqa: E402
from stable_baselines3.common.logger import configure  # noqa: E402

from entrostat import policy_loss  # noqa: E402
from entrostat.integrations.sb3 import EntropyControlledPPO  # noqa: E402
from entrostat.integrations.sb3.actions import inner, of_actions  # noqa: E402
from entrostat.integrations.sb3.loop import DECISIONS, SHARES  # noqa: E402
from entrostat.measure.policy.distributions import distribution_statistics  # noqa: E402
from tests.integrations.sb3_runs import ENVS, FRAMES, SETTINGS, STATIC, Guess, control, made, same_weights, trained  # noqa: E402

torch.set_num_threads(1)
MANY = {"n_epochs": 9}
UPDATES = MANY["n_epochs"] * FRAMES // SETTINGS["batch_size"]
SPACES = {
    "discrete": spaces.Discrete(4),
    "several": spaces.MultiDiscrete([3, 2]),
    "binary": spaces.MultiBinary(2),
    "continuous": spaces.Box(-1, 4, (2,), np.float32),
}
PACED = {"type": "linear", "start": 0.97, "end": 0.3, "unit": "initial", "time": "run", "pace": "success"}


class Rollouts(BaseCallback):
    """The decision, metrics and samples of every rollout."""

    def __init__(self):
        super().__init__()
        self.decisions, self.metrics = [], []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        self._keep()

    def _on_training_end(self):
        self._keep()

    def _keep(self):
        loop = self.model.entropy_loop
        if loop.metrics and (not self.metrics or self.metrics[-1] is not loop.metrics):
            self.metrics.append(loop.metrics)
            self.decisions.append(loop.decision)

    def column(self, name):
        return np.array([row[name] for row in self.metrics])


@pytest.mark.parametrize("space", SPACES)
def test_without_control_it_is_ppo_to_the_bit(space):
    theirs = trained(2, kind=sb3.PPO, env={"actions": SPACES[space]})
    assert same_weights(trained(2, env={"actions": SPACES[space]}), theirs)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("normalize", [True, False])
def test_static_thresholds_train_as_ppo_does(space, normalize):
    settings = {"env": {"actions": SPACES[space]}, "normalize_advantage": normalize, "learning_rate": 3e-2}
    theirs, ours = trained(2, kind=sb3.PPO, **settings), trained(2, control(**STATIC), **settings)
    for left, right in zip(theirs.policy.parameters(), ours.policy.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    fraction = "train/clip_fraction"
    assert theirs.logger.name_to_value[fraction] > 0


class Unproved(EntropyControlledPPO):
    """Takes two thresholds a sample in every rollout."""

    def train(self):
        self.entropy_loop.proved = False
        super().train()


def test_one_threshold_for_all_samples_is_counted_as_one_for_each():
    settings = {"env": {"actions": SPACES["discrete"]}, "learning_rate": 3e-2}
    alike, each = (trained(2, control(**STATIC), kind=kind, **settings) for kind in (EntropyControlledPPO, Unproved))
    left, right = ([model.entropy_loop.metrics[name] for name in SHARES] for model in (alike, each))
    assert min(left) > 0
    assert left == pytest.approx(right, abs=1e-3)


class Copied(EntropyControlledPPO):
    """Keeps the rollout, the decision and the policy of before its updates."""

    def train(self):
        self.before = copy.deepcopy(self.policy)
        super().train()


SGD = {"optimizer_class": torch.optim.SGD, "net_arch": [16]}
WHOLE = {"batch_size": FRAMES, "n_epochs": 3, "vf_coef": 0.0, "max_grad_norm": 1e9, "learning_rate": 1.0}


@pytest.mark.parametrize("actuator", ["sensitivity", "split_range", "entropic", "region", "balanced_bonus"])
def test_the_updates_are_those_of_our_own_loss(actuator):
    acting = control(law={"type": "manual", "command": 0.5}, actuator={"type": actuator})
    model = trained(1, acting, kind=Copied, policy_kwargs=SGD, **WHOLE)
    tokens, advantages, policy = kept(model)
    mask = torch.ones_like(advantages)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    cut = []
    for _ in range(3):
        now = evaluated(policy, model)
        loss, metrics = policy_loss(now.logprob, tokens, advantages, mask, decision(model), now=now)
        cut.append(float(metrics["clip_ratio/region_mean"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert max(cut) > 0.02 or actuator == "balanced_bonus"
    assert (abs(decision(model).actuation.bonus) > 0.001) == (actuator == "balanced_bonus")
    assert model.ent_coef == 0
    assert model.entropy_loop.metrics["clip_ratio/region_mean"] == pytest.approx(np.mean(cut), abs=1e-6)
    for ours, theirs in zip(policy.parameters(), model.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def decision(model):
    return model.entropy_loop.decision


def kept(model):
    """The last rollout's statistics under the policy of before its updates, and its normalised advantages."""
    buffer = model.rollout_buffer  # flattened by the updates
    advantages = torch.as_tensor(buffer.advantages.reshape(-1, 1))
    with torch.no_grad():
        tokens = evaluated(model.before, model)
    return tokens, (advantages - advantages.mean()) / (advantages.std() + 1e-8), copy.deepcopy(model.before)


def evaluated(policy, model):
    buffer = model.rollout_buffer
    actions = torch.as_tensor(buffer.actions)
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions[:, 0]
    made = policy.get_distribution(torch.as_tensor(buffer.observations))
    return distribution_statistics(of_actions(inner(made)), actions, entropy_gradient=True)


@pytest.mark.parametrize("space", SPACES)
def test_the_measurement_is_that_of_the_policy_that_sampled(space):
    model = trained(2, control(), kind=Copied, env={"actions": SPACES[space]})
    tokens, _, _ = kept(model)
    batch = decision(model).batch
    assert batch.tokens == FRAMES
    assert batch.entropy == pytest.approx(float(tokens.entropy.mean()), abs=1e-6)
    assert batch.surprisal == pytest.approx(float(-tokens.logprob.mean()), abs=1e-6)
    assert batch.density == (space == "continuous")


def test_samples_of_one_stretch_of_an_episode_count_as_one():
    model = trained(3, control(), kind=Copied, learning_rate=3e-2)
    tokens, _, _ = kept(model)
    starts = model.rollout_buffer.episode_starts.astype(bool)  # [steps, envs]
    groups, group = [], -1
    for env in range(ENVS):
        for step in range(SETTINGS["n_steps"]):
            group += bool(step == 0 or starts[step, env])
            groups.append(group)
    entropy, count = tokens.entropy[:, 0].double().numpy(), group + 1
    excess = np.bincount(groups, entropy - entropy.mean())
    expected = np.sqrt(count / (count - 1) * (excess**2).sum()) / len(entropy)
    assert ENVS < count < FRAMES
    assert expected > 1e-4
    assert decision(model).batch.standard_error == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("space", SPACES)
def test_entropy_follows_its_curve(space):
    curve = {"type": "linear", "start": 1.0, "end": 0.7, "steps": 20, "unit": "initial"}
    seen = Rollouts()
    trained(20, control(target=curve), callback=seen, env={"actions": SPACES[space]})
    error, target = seen.column("controller/error"), seen.column("controller/setpoint")
    assert len(error) == 20
    assert np.sqrt(np.mean(error[5:] ** 2)) < 0.06 * target.mean()


def test_a_dict_observation_is_as_good_as_any():
    seen = Rollouts()
    trained(3, control(), callback=seen, env={"nested": True}, policy="MultiInputPolicy")
    assert np.isfinite(seen.column("controller/measurement")).all()


def test_a_rollout_is_decided_anew_at_most_eight_times_and_early_stopping_is_told():
    early, every = Rollouts(), math.ceil(UPDATES / DECISIONS)
    model = trained(4, control(), **MANY)
    assert model.entropy_state["law"]["refined"] == math.ceil(UPDATES / every) <= DECISIONS < UPDATES
    model = made(control(), target_kl=1e-3, learning_rate=1e-2, **MANY)
    model.learn(FRAMES, callback=early)
    refined = model.entropy_state["law"]["refined"]
    steps = int(next(iter(model.policy.optimizer.state.values()))["step"])
    assert refined == math.ceil(steps / every) < UPDATES / every
    model.learn(FRAMES, callback=early, reset_num_timesteps=False)
    assert early.metrics[-1]["estimate/updates"] == refined


def test_a_callback_that_predicts_during_the_rollout_disturbs_nothing():
    quiet, loud = Rollouts(), Rollouts()
    trained(2, control(), callback=quiet)
    evaluation = EvalCallback(made(kind=sb3.PPO).env, eval_freq=5, n_eval_episodes=1, verbose=0)
    trained(2, control(), callback=[loud, evaluation])
    assert len(loud.metrics) == 2
    assert loud.column("controller/measurement")[0] == quiet.column("controller/measurement")[0]


def test_a_saved_model_goes_on_where_it_was(tmp_path):
    model = trained(3, control())
    state = model.entropy_state
    model.save(tmp_path / "model.zip")
    loaded = EntropyControlledPPO.load(tmp_path / "model.zip", env=model.env)
    assert loaded.entropy_loop.controller.state_dict() == json.loads(json.dumps(state))
    assert loaded.entropy_loop.controller.config == control()
    loaded.learn(FRAMES, reset_num_timesteps=False)
    assert decision(loaded).step == state["step"] == 3


def test_true_is_the_recommended_curve_over_the_run_and_a_longer_run_keeps_it(tmp_path):
    model = trained(4, True)
    assert model.entropy_control["target"]["type"] == "hold_then_anneal"
    assert decision(model).setpoint < 0.6 * model.entropy_state["initial_entropy"]  # held, it would be 0.85
    model.save(tmp_path / "model.zip")
    loaded = EntropyControlledPPO.load(tmp_path / "model.zip", env=model.env)
    loaded.learn(4 * FRAMES, reset_num_timesteps=False)
    assert loaded.entropy_state["total"] == 4


@pytest.mark.parametrize(("pays", "end"), [(False, 0.97), (True, 0.3)], ids=["without rewards", "with rewards"])
def test_a_curve_paced_by_success_waits_for_rewards(pays, end):
    model = trained(9, control(target=PACED), env={"pays": pays})
    last = model.entropy_loop.controller.step_scalar(1.0, success=0.0)
    assert last.setpoint == pytest.approx(end * model.entropy_state["initial_entropy"], rel=0.03)


class Returns(Rollouts):
    """And the returns of the episodes that ended in each rollout."""

    def __init__(self):
        super().__init__()
        self.ended = []

    def _on_step(self):
        self.ended[-1] += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_start(self):
        super()._on_rollout_start()
        self.ended.append([])


def test_success_is_counted_over_the_last_hundred_episodes():
    seen, total = Returns(), 9
    model = trained(total, control(target=PACED), callback=seen)
    least, passed, expected = math.inf, 0.0, []
    for step in range(total):
        expected.append(0.97 - 0.67 * passed / total)
        returns = list(chain.from_iterable(seen.ended[: step + 1]))[-100:]
        least = min([least, *returns])
        passed += np.mean([r > least for r in returns]) * (total - passed) / (total - step)
    assert sum(map(len, seen.ended)) > 100
    found = [decision.setpoint / model.entropy_state["initial_entropy"] for decision in seen.decisions]
    assert found == pytest.approx(expected)


def test_the_least_return_so_far_survives_a_save(tmp_path):
    model = trained(3, control(target=PACED))
    model.save(tmp_path / "model.zip")
    loaded = EntropyControlledPPO.load(tmp_path / "model.zip", env=model.env)
    assert loaded.entropy_loop.least == model.entropy_loop.least < min(e["r"] for e in model.ep_info_buffer) + 1e-9


def test_a_saved_model_is_plain_ppo_to_sb3_and_plain_ppo_is_taken_over(tmp_path):
    model = trained(1, control())
    model.save(tmp_path / "ours.zip")
    assert same_weights(sb3.PPO.load(tmp_path / "ours.zip"), model)
    trained(1, kind=sb3.PPO).save(tmp_path / "theirs.zip")
    mine = EntropyControlledPPO.load(tmp_path / "theirs.zip", env=model.env, entropy_control=control())
    mine.learn(FRAMES)
    assert decision(mine).step == 0
    assert same_settings(EntropyControlledPPO.load(tmp_path / "ours.zip", entropy_control=None), None)


def same_settings(model, loop):
    return model.entropy_loop is loop


def test_the_numbers_are_logged_under_our_names_and_few_on_the_screen(tmp_path, capsys):
    model = made(control(), verbose=1)
    model.set_logger(configure(str(tmp_path), ["stdout", "json"]))
    model.learn(2 * FRAMES)
    expected = {"actor/entropy", "controller/setpoint", "controller/command", "controller/standard_error"}
    expected |= {f"region/e{k}/{part}" for k in (1, 2, 3, 4) for part in ("fraction", "contribution")}
    expected |= {"clip_ratio/region_mean", "gradient/zero_fraction", "threshold/low_mean", "estimate/gain"}
    last = json.loads((tmp_path / "progress.json").read_text().splitlines()[-1])
    assert expected <= last.keys()
    assert "train/clip_range" not in last
    shown = capsys.readouterr().out
    assert "setpoint" in shown
    assert "contribution" not in shown


def test_the_guards_stop_ends_learning():
    guard = {"action": "stop", "patience": 2, "band": 0.01}
    far = control(target={"type": "constant", "value": 0.1}, law={"type": "pid", "kp": 1e3}, guard=guard)
    model = trained(9, far, learning_rate=1e-5)
    assert model.entropy_loop.controller.stop
    assert model.num_timesteps < 9 * FRAMES


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ({}, {"env": {"actions": spaces.Discrete(1)}}, r"Discrete\(1\) has one action, .*; give an environment"),
        ({}, {"env": {"actions": spaces.MultiDiscrete([1, 1])}}, r"MultiDiscrete\(\[1 1\]\) has one action"),
        (
            {"target": {"type": "constant", "value": 1.5}},
            {},
            r"the target reaches 1.5 nats, above ln\(4\) = 1.39, .*; write a lower target\.",
        ),
        (
            {},
            {"env": {"actions": SPACES["continuous"]}, "use_sde": True},
            r"use_sde=True draws its noise once for many steps, .*; set it to False\.",
        ),
        ({"guard": {"kl_limit": 1.0}}, {}, r"`guard.kl_limit` needs a KL divergence .*; remove it\."),
        ({"actuator": {"type": "kl_cov"}}, {}, r"`actuator.type` is 'kl_cov', which adds to the loss"),
        (
            {"actuator": {"type": "split_range"}},
            {"env": {"actions": SPACES["continuous"]}},
            r"`actuator.type` is 'split_range', made for probabilities, .*; write `sensitivity`",
        ),
        ({"target": {"type": "constant", "value": -1}}, {}, r"`target.value`: -1 is below 0"),
        ({"target": PACED}, {"monitored": False}, r"`target.pace` is success, and no Monitor .*; make the environ"),
    ],
)
def test_what_cannot_be_controlled_is_refused_in_one_sentence(content, settings, message):
    from entrostat import InputError

    with pytest.raises(InputError, match=message):
        made(control(**content), **settings)


@pytest.mark.parametrize("looks", [True, False], ids=["another loss", "nothing at all"])
def test_an_algorithm_that_trains_without_the_clip_range_stops_the_run(looks):
    from entrostat import InputError
    from entrostat.integrations.sb3 import entropy_controlled

    class Deaf(sb3.PPO):
        def train(self):
            for data in self.rollout_buffer.get(self.batch_size) if looks else ():
                _, logprob, _ = self.policy.evaluate_actions(data.observations, data.actions.long().flatten())
                (-data.advantages * logprob).mean().backward()

    with pytest.raises(InputError, match="does not read the thresholds that it was handed"):
        made(control(), kind=entropy_controlled(Deaf)).learn(FRAMES)


def test_an_algorithm_without_the_entropy_that_a_bonus_weighs_stops_the_run():
    from entrostat import InputError
    from entrostat.integrations.sb3 import entropy_controlled

    class Silent(sb3.PPO):
        def train(self):
            evaluate = self.policy.evaluate_actions
            self.policy.evaluate_actions = lambda *given: (*evaluate(*given)[:2], torch.zeros(1))
            super().train()

    acting = control(law={"type": "manual", "command": 0.5}, actuator={"type": "balanced_bonus"})
    with pytest.raises(InputError, match="gives the policy's entropy no gradient under the bonus"):
        made(acting, kind=entropy_controlled(Silent)).learn(FRAMES)


@pytest.mark.parametrize("name", ["SAC", "DQN", "TD3", "DDPG", "A2C"])
def test_an_algorithm_without_a_clipped_surrogate_is_refused_in_one_sentence(name):
    from entrostat import InputError
    from entrostat.integrations.sb3 import entropy_controlled

    with pytest.raises(InputError, match=rf"{name} has no clipped surrogate, .*; give PPO, or MaskablePPO or Recurr"):
        entropy_controlled(getattr(sb3, name))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ent_coef": 0.01}, "ent_coef=0.01 pushes the entropy up beside the controller, which pulls it back; set"),
        ({"batch_size": FRAMES, "n_epochs": 1}, "one optimizer step a rollout: every ratio is 1"),
        ({"env": {"actions": SPACES["continuous"]}}, "actions are continuous: entropy and target are those of the Ga"),
    ],
)
def test_what_works_against_the_loop_gets_one_sentence(settings, message, caplog):
    with caplog.at_level(logging.WARNING, "entrostat"):
        made(control(actuator={"type": "region"}), **settings)
    assert [record.message[: len(message)] for record in caplog.records] == [message]


def test_a_configuration_may_be_a_file_or_a_mapping(tmp_path):
    (tmp_path / "control.yaml").write_text("target: {type: constant, value: 0.9}\nlaw: {type: adaptive}\n")
    for given in (
        tmp_path / "control.yaml",
        {"target": {"type": "constant", "value": 0.9}, "law": {"type": "adaptive"}},
    ):
        assert made(given).entropy_loop.controller.config == control()


def test_the_environment_of_the_tests_is_one():
    from gymnasium.utils.env_checker import check_env

    check_env(Guess(), skip_render_check=True)


def test_the_numbers_go_into_mlflows_active_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from stable_baselines3.common.logger import Logger

    from entrostat.trainer.tracking.sb3_writer import MLflowWriter

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    model = made(control())
    while mlflow.active_run():  # an earlier test left its own open, in a store that is gone
        with suppress(mlflow.exceptions.MlflowException):
            mlflow.end_run()
    with mlflow.start_run() as run:
        model.set_logger(Logger(None, [MLflowWriter()]))
        model.learn(2 * FRAMES)
    logged = mlflow.MlflowClient().get_run(run.info.run_id).data.metrics
    assert logged["controller/setpoint"] == 0.9
    assert {"time/total_timesteps", "region/e1/fraction", "estimate/gain"} <= logged.keys()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "follows a target and none is given; add `target:`"),
        ("", "give the path of a YAML file"),
        (0, "entropy_control is a int; give True"),
        ([], "entropy_control is a list; give True"),
    ],
)
def test_what_is_empty_is_no_control_and_refused(given, message):
    from entrostat import InputError

    with pytest.raises(InputError, match=message):
        made(given)
    assert made(False).entropy_loop is made(None).entropy_loop is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("PPO", "the algorithm is 'PPO', which is no class; give PPO itself"),
        (None, "the algorithm is None, which is no class"),
        (EntropyControlledPPO, "EntropyControlledPPO takes `entropy_control` already; make the model with it"),
    ],
)
def test_what_is_no_algorithm_of_theirs_is_refused_in_one_sentence(given, message):
    from entrostat import InputError
    from entrostat.integrations.sb3 import entropy_controlled

    with pytest.raises(InputError, match=message):
        entropy_controlled(given)


def test_a_loaded_model_that_is_paced_by_success_needs_a_monitor_too(tmp_path):
    from entrostat import InputError

    trained(1, control(target=PACED)).save(tmp_path / "model.zip")
    loaded = EntropyControlledPPO.load(tmp_path / "model.zip")
    loaded.set_env(made(monitored=False).env)
    with pytest.raises(InputError, match=r"`target.pace` is success, and no Monitor .*; make the environ"):
        loaded.learn(FRAMES)
    loaded.set_env(made().env)
    assert decision(loaded.learn(FRAMES)).step == 1
