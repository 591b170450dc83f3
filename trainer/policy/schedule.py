"""The learning rate over a run: transformers' schedules, as a number for each optimizer step."""

from __future__ import annotations

from collections.abc import Callable

import torch

from entrostat.inputs.errors import InputError, one_line, shorten

from ..config import RunConfig

LEVEL = ("constant", "constant_with_warmup")


def learning_rate(config: RunConfig) -> Callable[[int], float] | None:
    """Map from an optimizer step, counted over the run, to its learning rate; none where it is constant.

    The rate follows from the step's number alone, so that a checkpoint holds nothing of it.

    Raises:
        InputError: the options do not fit the schedule.
    """
    update = config.update
    level = update.schedule in (None, *LEVEL)
    if level and update.schedule_options:
        raise InputError(
            f"`update.schedule_options` has {shorten(update.schedule_options)} and a constant learning rate takes "
            "none; leave them out, or write another `update.schedule`."
        )
    if update.schedule is None and not update.warmup:
        return None
    from transformers import get_scheduler

    warmup, total = update.warmup * config.updates, config.steps * config.updates
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=update.learning_rate)
    try:
        schedule = get_scheduler(
            LEVEL[1] if level else update.schedule,  # `constant` would pass over the warm-up
            stand_in,
            num_warmup_steps=warmup,
            num_training_steps=total,
            scheduler_specific_kwargs=dict(update.schedule_options),
        )
        (factor,) = schedule.lr_lambdas
        for step in (warmup, total):  # what does not fit may fail after the warm-up only
            factor(step)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`update.schedule_options` do not fit the schedule {update.schedule} ({one_line(error)}); see "
            "transformers' get_scheduler."
        ) from None
    return lambda step: update.learning_rate * factor(step)
