"""Random configurations and hostile inputs for `tests/soak/adversarial.py`."""

from __future__ import annotations

import math
from functools import cache
from random import Random
from typing import Any, get_args

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from entrostat.actuators import AnyActuator
from entrostat.laws import AnyLaw
from entrostat.measure.batch import REGIONS, BatchStatistics, ContributionCurve, Region
from entrostat.measure.reduce import EDGES, batch_statistics
from entrostat.measure.tokens import TokenStatistics, token_statistics

VOCAB = 7
GAINS = (0.0, 1e-6, 0.05, 0.5, 3.0, 14.0, 100.0, 1e6)
ENTROPIES = (0.0, 5e-324, 1e-300, 1e-7, 0.01, 0.3, 0.6, 0.9, 1.5, math.log(VOCAB), 5.0, 99.9)
IMPOSSIBLE = (math.nan, math.inf, -math.inf, -1.0, -1e300, 101.0, 1e300)
LOGITS = (0.0, 1.0, -1.0, 30.0, -30.0, 1e4, -1e4, 3e38, -3e38, math.inf, -math.inf, math.nan)
ADVANTAGES = (0.0, 1.0, -1.0, 1e-30, 1e-45, -7.0, 1e6, 3e38, -3e38, math.inf, -math.inf, math.nan)
SIZES = (0.0, 5e-324, 1e-300, 1e-12, 1e-3, 0.1, 1.0, 1e6, 1e300)


def configuration(rng: Random) -> dict[str, Any]:
    """A `control.yaml` with every feature on or off by chance."""
    return {
        "target": _target(rng),
        "law": _law(rng),
        "actuator": _actuator(rng),
        "surrogate": {"form": rng.choice(["clip", "gradient_preserving"])}
        | _sometimes(rng, beta_low=rng.choice([0.0, 0.25, 100.0]), beta_high=rng.choice([0.0, 1.0, 100.0])),
        "guard": _guard(rng),
    }


def _sometimes(rng: Random, **options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if rng.random() < 0.5}


def _target(rng: Random) -> dict[str, Any]:
    level, steps = lambda: rng.choice([1e-6, 0.05, 0.4, 0.6, 0.9, 1.2, 1.9]), rng.choice([1e-3, 1, 30, 1e9])
    ends = {"start": level(), "end": level(), "steps": steps}
    curve = rng.choice(
        [
            {"type": "constant", "value": level()},
            {"type": rng.choice(["linear", "cosine", "exponential"])} | ends,
            {"type": "increase_then_decrease", "peak": level()} | ends,
            {"type": "decrease_increase_decrease", "peak": level(), "trough": level()} | ends,
            {"type": "oscillatory_decay", "centre": 0.9, "amplitude": rng.choice([0.0, 0.9]), "period": steps},
            {"type": "table", "points": [[-1e9, 0.5], [0, level()], [1e-3, level()], [40, level()], [1e9, 0.2]]}
            | _sometimes(rng, interpolation="smooth"),
        ]
    )
    return curve | _sometimes(rng, unit="initial")


def anything(rng: Random, model: type[BaseModel]) -> dict[str, Any]:
    """A configuration of `model`: each of its numbers, choices and switches at its ends, in between, or left out."""
    schema = _schema(model)
    chosen = {"type": schema["properties"]["type"]["const"]}
    for name, field in schema["properties"].items():
        value = _value(rng, field)
        if name != "type" and value is not None and (name in schema.get("required", []) or rng.random() < 0.5):
            chosen[name] = value
    return chosen


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _value(rng: Random, field: dict[str, Any]) -> Any:
    """None for what is neither a number, nor a choice, nor a switch."""
    if "enum" in field:
        return rng.choice(field["enum"])
    if field.get("type") == "boolean":
        return rng.random() < 0.5
    if field.get("type") not in ("number", "integer"):
        return None
    low = field.get("minimum", field.get("exclusiveMinimum", 0))
    high = field.get("maximum", field.get("exclusiveMaximum", 10))
    value = rng.choice([low, high, rng.uniform(low, high), low + (high - low) * 1e-3])
    return int(value) if field["type"] == "integer" else value


def _kinds(union: Any, *without: str) -> list[type[BaseModel]]:
    models = get_args(get_args(union)[0])
    return [model for model in models if model.model_fields["type"].default not in without]


def _law(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.3:
        return anything(rng, rng.choice(_kinds(AnyLaw, "pid", "manual", "excitation")))
    if rng.random() < 0.1:
        return rng.choice(
            [
                {"type": "manual", "command": rng.choice([-10, 10, rng.uniform(-2, 2)])},
                {"type": "excitation", "amplitude": 0.7, "offset": 0.3, "hold": rng.choice([1, 5])},
                {"type": "excitation", "shape": "staircase", "hold": 1, "levels": rng.choice([3, 9])},
            ]
        )
    law = {"type": "pid", "kp": rng.choice(GAINS), "ki": rng.choice(GAINS), "error": rng.choice(["nats", "log"])}
    return law | _sometimes(
        rng,
        kd=rng.choice(GAINS),
        derivative_filter=rng.choice([0.1, 2.0, 10.0]),
        setpoint_weight=rng.random(),
        feedforward={"gain": rng.choice([1e-5, 0.02, 1.0]), "lag": rng.choice([0.0, 0.43, 0.999])},
        dead_band=rng.choice([1e-9, 0.02, 0.5]),
        limit=rng.choice([1e-6, 0.3, 1.0, 10.0]),
        rate_limit=rng.choice([1e-6, 0.1, 2.0]),
        anti_windup="back_calculation",
        tracking_time=rng.choice([1.0, 5.0, 1000.0]),
    )


def _actuator(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.4:
        return anything(rng, rng.choice(_kinds(AnyActuator, "regions_only")))
    limit = rng.choice([0.1, 5.0, 10.0])
    return rng.choice(
        [
            {"type": "static", "low": rng.random(), "high": rng.choice([0.0, 0.28, 10.0])},
            {"type": "regions_only", "regions": rng.sample(REGIONS, rng.randint(1, 4))},
            {"type": "split_range", "standard": rng.random(), "probability": rng.choice(["current", "rollout"])},
            {"type": "region", "standard": rng.random(), "span": rng.choice([1e-3, 2.0, 1000.0]), "limit": limit},
            {"type": "sensitivity", "standard": rng.choice([1e-6, 0.2, 1.0]), "limit": limit},
        ]
    )


def _guard(rng: Random) -> dict[str, Any]:
    action, patience = rng.choice(["warn", "hold", "static", "stop"]), rng.choice([1, 3, 14])
    return {"action": action, "patience": patience} | _sometimes(
        rng,
        low=rng.choice([[-1, 1], [0, 0.3], [0.2, 0.2], [-0.5, 10]]),
        high=rng.choice([[-1, 1], [0, 0.4], [0.28, 0.28], [-0.5, 10]]),
        rate=rng.choice([1e-6, 0.1, 2.0]),
        band=rng.choice([1e-9, 0.1, 1000.0]),
        kl_limit=rng.choice([1e-9, 0.1]),
        transition=rng.choice([1, 4]),
        fallback={"low": 0.2, "high": 0.28},
    )


def entropy(rng: Random) -> float:
    """A measurement: honest, at an edge, or impossible."""
    kind = rng.random()
    return rng.uniform(0, 1.9) if kind < 0.5 else rng.choice(ENTROPIES if kind < 0.8 else IMPOSSIBLE)


def divergence(rng: Random) -> float:
    """A KL divergence to the start policy, or none."""
    return rng.choice([math.nan, math.nan, 0.0, 0.05, 5.0, math.inf, -1.0])


def statistics(rng: Random) -> BatchStatistics:
    """Batch statistics in numbers, from empty to absurd."""
    size = rng.choice(SIZES)
    bins = np.random.default_rng(rng.randrange(2**32)).random((2, len(EDGES) - 1)) * size
    bins *= np.array([[rng.random() < 0.8], [rng.random() < 0.8]])
    regions = {name: Region(0.25, 1.0, rng.choice([-1, 0, 1]) * rng.choice(SIZES)) for name in REGIONS}
    return BatchStatistics(
        entropy=math.nan,
        tokens=rng.choice([0, 1, 10**9]),
        sensitivity_rms=rng.choice(SIZES),
        regions=regions,
        exact_regions=regions,
        contributions=ContributionCurve(EDGES, *bins),
        vocab_size=rng.choice([None, VOCAB, 10**6]),
    )


def good_statistics() -> BatchStatistics:
    """Those of an ordinary batch: both sides have something to cut."""
    generator = torch.Generator().manual_seed(1)
    return batch_statistics(*_batch(generator, torch.randn(16, 5, VOCAB, generator=generator)))


def tensors(rng: Random) -> tuple[TokenStatistics, Tensor, Tensor]:
    """A rollout batch [4, 3] with hostile logits, advantages and masks; one in three is ordinary."""
    generator = torch.Generator().manual_seed(rng.randrange(2**32))
    logits = torch.randn(4, 3, VOCAB, generator=generator)
    tokens, advantages, mask = _batch(generator, logits)
    kind = rng.random()
    if kind < 0.3:
        logits[rng.randrange(4), rng.randrange(3), : rng.randrange(1, VOCAB + 1)] = rng.choice(LOGITS)
        tokens = token_statistics(logits, torch.zeros(4, 3, dtype=torch.long), rng.choice([1e-6, 0.5, 1.0, 1e6]))
    elif kind < 0.5:
        advantages[rng.randrange(4) :] = rng.choice(ADVANTAGES)
    elif kind < 0.7:
        mask[rng.randrange(4) :, rng.randrange(3) :] = False
        mask &= rng.random() < 0.7
    return tokens, advantages, mask


def _batch(generator: torch.Generator, logits: Tensor) -> tuple[TokenStatistics, Tensor, Tensor]:
    rows, time, vocab = logits.shape
    actions = torch.multinomial(logits.softmax(-1).view(-1, vocab), 1, generator=generator).view(rows, time)
    advantages = torch.randn(rows, generator=generator)
    return token_statistics(logits, actions), advantages, torch.ones(rows, time, dtype=torch.bool)


def probes() -> tuple[TokenStatistics, Tensor]:
    """[1, n] tokens that a rule may meet, NaN and infinity among them, and their advantages."""
    logprob = torch.tensor([0.0, -1e-6, -0.1, -1.0, -20.0, -1e30, -math.inf, math.nan])
    sensitivity = torch.tensor([0.0, 1e-45, 1e-6, 0.05, 1.0, -1e-6, -0.05, -1.0, 1e30, math.inf, -math.inf, math.nan])
    p, s = (x.reshape(1, -1) for x in torch.meshgrid(logprob, sensitivity, indexing="ij"))
    h = torch.where(torch.arange(p.numel()) % 3 == 0, 0.0, 1.5).reshape(1, -1)
    return TokenStatistics(p, h, s, VOCAB), torch.where(torch.arange(p.numel()) % 2 == 0, 1.0, -1.0).reshape(1, -1)
