"""`entrostat plan`: what a run will need, printed before it is paid for."""

from __future__ import annotations

from ..config import RunConfig, VLLMConfig
from ..engine.settings import OFFLOADS, deepspeed_settings
from ..policy.plan import GIB, Plan, micro_rows, plan
from ..policy.shapes import Shape, load_shape


def describe(config: RunConfig, prompt_length: int) -> str:
    """The plan of a run as text.

    Raises:
        InputError: the model's shape or DeepSpeed's JSON cannot be read, or what it says does not fit.
    """
    config = _with_json(config)
    shape = load_shape(config.model)
    return "\n".join(_lines(config, shape, plan(config, shape, prompt_length), prompt_length))


def _with_json(config: RunConfig) -> RunConfig:
    """The run with the ZeRO stage and the offloading that DeepSpeed's own JSON gives it, in our keys."""
    zero = deepspeed_settings(config.update, config.engine, micro_rows(config))["zero_optimization"]
    found = {"zero_stage": zero["stage"]}
    for key, (name, least) in OFFLOADS.items():
        block = zero.get(name)
        placed = isinstance(block, dict) and block.get("device", "none") != "none"
        found[key] = placed and zero["stage"] >= least
    return config.model_copy(update={"engine": config.engine.model_copy(update=found)})


def _lines(config: RunConfig, shape: Shape, made: Plan, prompt_length: int) -> list[str]:
    machine = config.hardware
    layout = f"ZeRO {config.engine.zero_stage}, {config.engine.dtype}"
    lines = [
        f"{config.model}: {shape.parameters / 1e9:.3g} B parameters",
        f"{machine.ranks} x {machine.memory:g} GiB, {layout}",
        "",
        "memory of a rank, GiB",
        *(f"  {name:26s} {size / GIB:8.2f}" for name, size in made.memory.items()),
        f"  {'together':26s} {made.total / GIB:8.2f} of {machine.memory:g}{_verdict(config, made)}",
        "",
        f"a step: {made.response_tokens:,} response tokens at most, {made.prompt_tokens:,} prompt tokens "
        f"({prompt_length} a prompt)",
        "",
        "time of a step",
        *(_time(name, seconds, made) for name, seconds in made.seconds.items()),
        "",
        *_cost(config.control.measurement.share, made),
    ]
    return lines


def _cost(share: float, made: Plan) -> list[str]:
    if share < 1:
        return [
            f"control costs {made.pass_share:.1%} of a step: a measuring pass over {share:.1%} of the responses, and",
            "entropy and sensitivity in the update. The ratio's log-probabilities are the sampler's.",
        ]
    return [
        f"control costs {made.control_share:.1%} of a step: entropy and sensitivity of every token. The measuring pass",
        f"({made.measure_share:.1%}) gives the ratio's log-probabilities too, which a trainer without control needs.",
    ]


def _time(name: str, seconds: float, made: Plan) -> str:
    return f"  {name:26s} {seconds:8.2f} s {seconds / sum(made.seconds.values()):7.1%}"


def _verdict(config: RunConfig, made: Plan) -> str:
    if made.total <= 0.92 * config.hardware.memory * GIB:
        return ""
    lower, engine = "update.microbatch", config.rollout.engine
    if isinstance(engine, VLLMConfig) and engine.placement != "server":
        lower += f" or rollout.engine.{'kv_cache' if engine.kv_cache else 'gpu_memory_utilization'}"
    return f"  <- does not fit with room for fragments: lower {lower}, or raise engine.zero_stage"
