"""Small runs in TRL's trainer, for the tests: the embedded task, 8 prompts x 4 responses."""

from typing import Any

from benchmarks.trl_run import trainer
from entrostat import ControlConfig
from entrostat.inputs.configuration import parse

CONTROL = {"target": {"type": "constant", "value": 0.5}, "law": {"type": "pid", "kp": 3, "ki": 0.3}}
SETTINGS = {
    "per_device_train_batch_size": 8,
    "steps_per_generation": 4,
    "num_generations": 4,
    "logging_steps": 1,
    "max_steps": 8,
    "seed": 3,
}
ON_POLICY = {"gradient_accumulation_steps": 4}
"""The default of TRL: one optimizer step a rollout."""


def control(**content: Any) -> ControlConfig:
    return parse(ControlConfig, CONTROL | content)


def small(out, entropy_control: ControlConfig | None, **settings: Any):
    """A trainer with `SETTINGS`; logged rows are in `.state.log_history`."""
    return trainer(out, entropy_control, **SETTINGS | settings)


def trained(out, entropy_control: ControlConfig | None, **settings: Any):
    """The same, after its last step."""
    run = small(out, entropy_control, **settings)
    run.train()
    return run


def rows(run, *names: str) -> list[tuple]:
    """What TRL logged under these names, step by step, where it logged the first of them."""
    return [tuple(row.get(name) for name in names) for row in run.state.log_history if names[0] in row]


def weights(run):
    return [parameter.detach().clone() for parameter in run.accelerator.unwrap_model(run.model).parameters()]
