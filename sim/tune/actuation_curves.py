"""Thresholds, or the bonus, that a command stands for, on a batch that the policy plant samples.

Some actuators act by the command alone, others by the batch in hand too; a batch of the tabular plant shows either. Its
tokens are not those of a language model: read the shape, not the third digit.
"""

from __future__ import annotations

import numpy as np

from entrostat.actuators.base import Actuator

from ..plants import Floats

POINTS = 41
REGIONS = ("E1", "E2", "E3", "E4")


def actuation_curves(actuator: Actuator, seed: int = 0) -> tuple[Floats, dict[str, Floats]]:
    """Commands from one end of the batch to the other, and what each does: the weight of an actuator's `bonus`, or each
    region's mean half-width at ratio 1.

    E1 and E2 (A > 0) have upper thresholds, E3 and E4 (A < 0) lower ones. A negative one cuts its tokens from the
    first update on.

    Args:
        seed: of the plant and its batch.
    """
    import torch

    from entrostat.measure.reduce import batch_statistics

    from ..policy.family import PolicyFamily
    from ..policy.plant import PolicyPlant

    rollout = PolicyFamily([PolicyPlant()], [seed]).rollout()
    tokens, mask, region = rollout.tokens[0], rollout.mask[0], rollout.regions[0]
    advantages = rollout.advantages[0]
    batch = batch_statistics(tokens, advantages, mask, rollout.groups)
    a = advantages[:, None].expand(tokens.logprob.shape)
    commands = np.linspace(*actuator.limits(batch), POINTS)
    actuations = [actuator.actuate(command, batch) for command in commands.tolist()]
    if actuator.adds_bonus:
        return commands, {"bonus": np.array([actuation.bonus for actuation in actuations])}
    rows = []
    for actuation in actuations:
        low, high = actuation.rule(tokens, a, tokens.logprob)
        eps = torch.where(a > 0, high, low)
        rows.append([float(eps[region == index].mean()) for index in range(len(REGIONS))])
    return commands, dict(zip(REGIONS, np.array(rows).T, strict=True))
