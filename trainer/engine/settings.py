"""DeepSpeed's configuration from ours, and a user's own laid over it."""

from __future__ import annotations

from typing import Any

from entrostat.inputs.errors import InputError, shorten
from entrostat.inputs.files import read_json

from ..config import EngineConfig, UpdateConfig

OURS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "optimizer", "scheduler")
"""Keys that the run's configuration sets under other names; set twice they could contradict each other."""
OFFLOADS = {"offload_optimizer": ("offload_optimizer", 1), "offload_parameters": ("offload_param", 3)}
"""Key of ours -> DeepSpeed's, and the lowest ZeRO stage that reads it."""


def deepspeed_settings(update: UpdateConfig, engine: EngineConfig, rows: int) -> dict[str, Any]:
    """The configuration for an engine whose ranks have `rows` responses of a minibatch each.

    Raises:
        InputError: the rows do not divide into microbatches, the user's JSON cannot be used, or the ZeRO stage has
            nothing to offload.
    """
    micro = min(update.microbatch or rows, rows)
    if rows % micro:
        raise InputError(
            f"a rank has {rows} responses of a minibatch, which do not divide into microbatches of {micro}; write an "
            f"`update.microbatch` that divides {rows}."
        )
    ours = {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": rows // micro,
        "gradient_clipping": update.gradient_clipping,
        "zero_optimization": {"stage": engine.zero_stage} | _offload(engine),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # PyTorch's AdamW steps on the CPU too, and needs no compiler
        "bf16": {"enabled": engine.dtype == "bfloat16"},
        "steps_per_print": 1_000_000_000,
    }
    given = _user_settings(engine)
    settings = _over(ours, given)
    _check_zero(engine, settings["zero_optimization"], given)
    return settings


def _offload(engine: EngineConfig) -> dict[str, Any]:
    return {name: {"device": "cpu"} for key, (name, _) in OFFLOADS.items() if getattr(engine, key)}


def _check_zero(engine: EngineConfig, zero: Any, given: dict[str, Any]) -> None:
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in (0, 1, 2, 3):
        raise InputError(
            f"`engine.deepspeed` has {shorten(zero)} for `zero_optimization`; write an object whose `stage` is "
            "0, 1, 2 or 3, or leave it out."
        )
    for key, (_, least) in OFFLOADS.items():
        if getattr(engine, key) and stage < least:
            theirs = "stage" in given.get("zero_optimization", {})
            where = "deepspeed.zero_optimization.stage" if theirs else "zero_stage"
            raise InputError(
                f"`engine.{key}` has no effect at `engine.{where}: {stage}`; write `engine.{where}: {least}`, or leave "
                f"`{key}` out."
            )


def _user_settings(engine: EngineConfig) -> dict[str, Any]:
    given, low = engine.deepspeed, engine.dtype == "bfloat16"
    if given is None:
        return {}
    if isinstance(given, str):
        given = read_json(given, "DeepSpeed's JSON in `engine.deepspeed`")
    if not isinstance(given, dict):
        raise InputError("`engine.deepspeed` holds no keys; give DeepSpeed's JSON object.")
    given = _decided(given)
    if twice := [key for key in OURS if key in given]:
        raise InputError(
            f"`engine.deepspeed` has `{twice[0]}`, which follows from `rollout`, `update` and the ranks; leave it out."
        )
    for key, ours in {"bf16": low, "bfloat16": low, "fp16": False, "torch_autocast": False}.items():
        block = given.get(key, {})
        if not isinstance(block, dict) or block.get("enabled", ours) != ours:
            raise InputError(
                f"`engine.deepspeed` has {block!r} for `{key}`, against `engine.dtype: {engine.dtype}`; leave it out, "
                "and write `engine.dtype: bfloat16` where that is wanted."
            )
    return given


def _decided(given: dict[str, Any]) -> dict[str, Any]:
    """The JSON without what it leaves to the trainer, as "auto", at any depth."""
    return {
        key: _decided(value) if isinstance(value, dict) else value for key, value in given.items() if value != "auto"
    }


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, key by key through nested objects."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged
