"""`entrostat simulate`: a run as the plant predicts it."""

import pytest
import yaml

from entrostat import InputError
from entrostat.trainer.commands.plant.simulate import run_simulate

PLANT = {
    "initial": 0.85,
    "gain": 0.03,
    "lag": 0.43,
    "drift": -0.005,
    "process_noise": 0.005,
    "measurement_noise": 0.015,
}
LAW = {"type": "pid", "kp": 14, "ki": 2}


@pytest.fixture
def predict(tmp_path):
    """Simulate a control configuration on `PLANT`; returns the words."""

    def run(steps=150, plant=PLANT, seeds=2, **control):
        for name, content in (("control", control), ("plant", plant)):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return run_simulate(
            tmp_path / "control.yaml", tmp_path / "plant.yaml", steps, seeds, out=tmp_path / "predicted.png"
        )

    return run


def test_a_gentle_target_is_within_reach_and_drawn(predict, tmp_path):
    words = predict(target={"type": "linear", "start": 0.85, "end": 0.5, "steps": 150}, law=LAW)
    assert "the plant can follow the target at every step" in words
    assert (tmp_path / "predicted.png").read_bytes().startswith(b"\x89PNG")


def test_a_target_that_jumps_is_named_where_the_plant_cannot_follow(predict):
    # 0.5 nats up at 0.025 nats a step at most: 20 steps, the last of them within 5 % of the target
    points = [[0, 0.85], [60, 0.85], [61, 1.35], [149, 1.35]]
    words = predict(target={"type": "table", "points": points}, law=LAW)
    assert "the plant cannot follow the target at steps 61 to 7" in words


def test_a_plants_own_ends_are_what_can_be_reached(predict):
    curve = {"type": "table", "points": [[0, 0.85], [60, 0.85], [61, 0.45], [149, 0.45]]}
    narrow = predict(target=curve, law=LAW, plant=PLANT | {"low": -0.5, "high": 0.5})
    wide = predict(target=curve, law=LAW, plant=PLANT | {"low": -4.0, "high": 0.5})
    assert "command at its end (-0.5 or 0.5) in" in narrow
    assert "command at its end (-4 or 0.5) in" in wide

    def last(words):
        return int(words.split("steps 61 to ")[1].split(";")[0].split(",")[0])

    assert last(narrow) > last(wide) + 10


def test_a_law_that_follows_nothing_is_refused(predict):
    with pytest.raises(InputError, match="has the law `manual`"):
        predict(law={"type": "manual"})


def test_too_few_steps_are_refused(predict):
    with pytest.raises(InputError, match="--steps is 3"):
        predict(steps=3, target={"type": "constant", "value": 0.6}, law=LAW)


def test_a_target_of_a_density_is_refused(predict):
    with pytest.raises(InputError, match="has a target of `unit: differential`, and a plant's entropy is above zero"):
        predict(target={"type": "constant", "value": -3, "unit": "differential"}, law=LAW | {"error": "nats"})


def of_law(words, law):
    return next(line for line in words.splitlines() if line.startswith(law))


@pytest.mark.parametrize("law", ["pid", "adaptive"])
def test_a_guard_that_holds_the_command_back_is_foreseen(predict, law):
    given = {"target": {"type": "constant", "value": 0.4}, "law": LAW if law == "pid" else {"type": "adaptive"}}
    free, slow = (of_law(predict(steps=60, **given, guard=guard), law) for guard in ({}, {"rate": 0.01}))
    assert float(slow.split("RMSE ")[1].split(" %")[0]) > 2 * float(free.split("RMSE ")[1].split(" %")[0])


def test_the_smaller_of_the_laws_rate_and_the_guards_is_foreseen(predict):
    target = {"type": "constant", "value": 0.4}
    rates = [(None, 0.02), (0.02, None), (0.5, 0.02), (0.02, 0.5)]
    words = [
        of_law(predict(steps=20, target=target, law=LAW | {"rate_limit": law}, guard={"rate": guard}), "pid")
        for law, guard in rates
    ]
    assert len(set(words)) == 1


@pytest.mark.parametrize(
    ("law", "guard", "said"),
    [
        ({"type": "adaptive"}, {"rate": 0.1, "action": "hold"}, None),
        (LAW, {"action": "hold"}, "`action: hold`"),
        ({"type": "adaptive"}, {"action": "stop", "kl_limit": 0.1}, "`kl_limit`, `action: stop`"),
        (LAW, {"low": [0.1, 0.3]}, "`low`"),
    ],
)
def test_what_of_the_guard_is_not_foreseen_is_said(predict, law, guard, said):
    words = predict(steps=20, target={"type": "constant", "value": 0.6}, law=law, guard=guard)
    assert [line for line in words.splitlines() if line.startswith("guard")] == (
        [f"guard       not in the prediction: {said}"] if said else []
    )


@pytest.mark.parametrize(
    ("law", "seeds", "said"),
    [
        ({"type": "adaptive"}, None, {"adaptive": 3}),
        ({"type": "adaptive"}, 2, {"adaptive": 6}),
        (LAW, None, {"pid": 48, "adaptive": 3}),
        (LAW, 2, {"pid": 6, "adaptive": 3}),
    ],
)
def test_each_plant_has_as_many_runs_as_were_asked_for_under_the_law_of_the_file(predict, law, seeds, said):
    family = {"family": [PLANT, PLANT | {"gain": 0.04}, PLANT | {"drift": 0.0}]}
    words = predict(steps=20, seeds=seeds, plant=family, target={"type": "constant", "value": 0.7}, law=law)
    assert {law: int(of_law(words, law).split("95 % of ")[1].split(" runs")[0]) for law in said} == said
