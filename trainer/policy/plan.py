"""Needs of a run, by arithmetic: memory of a rank by part, tokens a step, and where the time goes.

Memory counts what the trainer allocates: tests compare it with small runs. Activations are those of a Llama- or
Qwen-like decoder in transformers with scaled-dot-product attention. Time is work divided by speed: matrix products at
`efficiency` of the GPU's peak, decoding and the passes over the logits at its memory bandwidth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import RunConfig, VLLMConfig
from .shapes import Shape

GIB = 2**30
STATISTICS_BYTES = 64
"""Moved per logit to measure entropy and sensitivity beyond the log-probability: eight passes over float32."""


@dataclass(frozen=True)
class Plan:
    """Memory in bytes, by part, of one rank; work and seconds of one step."""

    memory: dict[str, float]
    prompt_tokens: int
    response_tokens: int
    flops: dict[str, float]
    """Operations of matrix products, all ranks: rollout, measure, update."""
    seconds: dict[str, float]
    """rollout, measure, control, update."""

    @property
    def total(self) -> float:
        """Bytes of a rank at its highest."""
        return sum(self.memory.values())

    @property
    def control_share(self) -> float:
        """Share of a step's time for what only control needs: statistics beyond the log-probability."""
        return self.seconds["control"] / sum(self.seconds.values())

    @property
    def pass_share(self) -> float:
        """Share of control where the measuring pass is there for nothing else: a sampled measurement."""
        return self.control_share + self.measure_share

    @property
    def measure_share(self) -> float:
        """Share of the pass that measures; a trainer that recomputes log-probabilities has it too."""
        return self.seconds["measure"] / sum(self.seconds.values())


def plan(config: RunConfig, shape: Shape, prompt_length: int) -> Plan:
    """The plan of a run on the machine that `config.hardware` describes, every answer at its longest."""
    responses = config.rollout.prompts * config.rollout.responses_per_prompt
    tokens = responses * config.rollout.max_new_tokens
    flops = step_flops(config, shape, prompt_length)
    return Plan(
        memory=state_memory(config, shape) | pass_memory(config, shape, prompt_length) | sampler_memory(config, shape),
        prompt_tokens=config.rollout.prompts * prompt_length,
        response_tokens=tokens,
        flops=flops,
        seconds=step_seconds(config, shape, flops, tokens),
    )


def state_memory(config: RunConfig, shape: Shape) -> dict[str, float]:
    """Memory of a rank between steps: weights, gradients, Adam's moments, float32 masters, and a whole start policy.

    ZeRO (arXiv 1910.02054, section 5) divides optimizer state from stage 1 on, gradients from 2, weights from 3.
    Masters are there in bfloat16 at every stage, and from stage 1 on in float32 too. With an adapter gradients and
    optimizer state are the adapter's.
    """
    ranks, engine, size = config.hardware.ranks, config.engine, _size(config)
    added = adapter_parameters(config, shape)
    trained = added or shape.parameters
    optimizer = (8 + 4 * (engine.zero_stage > 0 or size == 2)) * trained
    parts = {
        "weights": size * (shape.parameters + added) / (ranks if engine.zero_stage == 3 else 1),
        "gradients": size * trained / (ranks if engine.zero_stage >= 2 else 1),
        "optimizer": optimizer / (ranks if engine.zero_stage >= 1 else 1),
    }
    if engine.offload_optimizer and engine.zero_stage >= 1:
        parts["optimizer"] = 0.0
    if engine.offload_parameters and engine.zero_stage == 3:
        parts["weights"] = 0.0
    if engine.zero_stage == 3:  # the layer at work, the one fetched ahead, and the head
        parts["gathered weights"] = size * (2 * shape.layer + shape.hidden * shape.vocabulary)
    if config.watches_start and config.adapter is None:
        parts["start policy"] = size * shape.parameters
    return parts


def adapter_parameters(config: RunConfig, shape: Shape) -> int:
    """Parameters of the LoRA layers, rank (inputs + outputs) each; 0 where all weights are trained."""
    if config.adapter is None:
        return 0
    h, i, kv = shape.hidden, shape.intermediate, shape.key_value
    linear = {"q_proj": 2 * h, "k_proj": h + kv, "v_proj": h + kv, "o_proj": 2 * h}
    linear |= {"gate_proj": h + i, "up_proj": h + i, "down_proj": h + i}
    targets = linear if config.adapter.targets == "all-linear" else config.adapter.targets
    return shape.layers * config.adapter.rank * sum(linear.get(name, 0) for name in targets)


def pass_memory(config: RunConfig, shape: Shape, prompt_length: int) -> dict[str, float]:
    """Highest need of one forward and backward pass of a microbatch."""
    size, rows = _size(config), micro_rows(config)
    tokens = rows * (prompt_length + config.rollout.max_new_tokens)
    layer = tokens * layer_bytes(shape, size)
    checkpoints = shape.layers * tokens * shape.hidden * size
    layers = checkpoints + layer if config.engine.gradient_checkpointing else shape.layers * layer
    activations = layers + tokens * norm_bytes(shape, size)
    if config.engine.without_logits:  # hidden states and their gradient, and the head's in float32
        hidden = 2 * rows * (config.rollout.max_new_tokens + 1) * shape.hidden * size
        return {"activations": activations, "measurement": hidden + 4 * shape.hidden * shape.vocabulary}
    logits = rows * (config.rollout.max_new_tokens + 1) * shape.vocabulary * size
    return {"activations": activations, "logits and their gradient": 2 * logits}


def layer_bytes(shape: Shape, size: int) -> int:
    """Bytes a token that a decoder layer keeps for the backward pass.

    Two norms, queries and the attention's output, keys and values repeated for all heads, and four tensors of the gated
    MLP.
    """
    return 2 * norm_bytes(shape, size) + size * (4 * shape.hidden + 4 * shape.intermediate)


def norm_bytes(shape: Shape, size: int) -> int:
    """The same for a norm: its input in float32, normalised, and its output."""
    return shape.hidden * (4 + 2 * size)


def sampler_memory(config: RunConfig, shape: Shape) -> dict[str, float]:
    """A vLLM engine's share of the GPU, or the key-value cache of transformers, which samples all responses at once.

    An engine with a `kv_cache` takes that and its weights, whatever the share. The cache of transformers is gone when
    the update begins; it counts here as if it were not.
    """
    engine = config.rollout.engine
    if isinstance(engine, VLLMConfig):
        if engine.placement == "server":
            return {"vLLM engine": 0.0}
        if engine.kv_cache:
            return {"vLLM engine": _size(config) * shape.parameters + engine.kv_cache * GIB}
        return {"vLLM engine": engine.gpu_memory_utilization * config.hardware.memory * GIB}
    rows = config.rollout.prompts * config.rollout.responses_per_prompt / config.hardware.ranks
    per_token = 2 * shape.layers * shape.key_value * _size(config)
    return {"key-value cache": rows * config.rollout.max_new_tokens * per_token}


def step_flops(config: RunConfig, shape: Shape, prompt_length: int) -> dict[str, float]:
    """Matrix products of a step, over all ranks: 2 flops a parameter and token forward, 4 more backward, 2 with LoRA.

    The head works on answers only. Attention's own products are left out, as they are small for answers below 10,000
    tokens (arXiv 2001.08361, section 2.1).
    """
    rollout, update = config.rollout, config.update
    responses = rollout.prompts * rollout.responses_per_prompt
    head = shape.hidden * shape.vocabulary
    body = shape.matrices - head
    answers = responses * rollout.max_new_tokens
    forward = 2 * (body * (_prompts_read(config) * prompt_length + answers) + head * (answers + responses))
    sampled = 2 * (body * (rollout.prompts * prompt_length + answers) + head * answers)
    # An adapter spares the backward pass one of its two products, the gradients of the weights beneath.
    backward = 3 + config.engine.gradient_checkpointing - (config.adapter is not None)
    measured = config.control.measurement.share * forward
    return {"rollout": sampled, "measure": measured, "update": backward * update.epochs * forward}


def _prompts_read(config: RunConfig) -> int:
    """Prompts that a pass over all responses reads: one a response, or one for all of a prompt's (`may_share`)."""
    engine, rollout = config.engine, config.rollout
    whole = engine.gradient_checkpointing or engine.without_logits or engine.zero_stage == 3
    once = config.update.shuffle == "prompts" and not whole
    return rollout.prompts * (1 if once else rollout.responses_per_prompt)


def step_seconds(config: RunConfig, shape: Shape, flops: dict[str, float], tokens: int) -> dict[str, float]:
    """Seconds of a step by phase, with all GPUs busy."""
    machine, gpus = config.hardware, _gpus(config)
    speed = machine.ranks * machine.tflops * 1e12 * machine.efficiency
    bandwidth = machine.bandwidth * 1e12
    measurement = config.control.measurement
    passes = measurement.share + config.update.epochs if measurement.sampled else 1
    rows = config.rollout.prompts * config.rollout.responses_per_prompt / gpus
    engine = config.rollout.engine
    at_once = rows
    if isinstance(engine, VLLMConfig) and engine.placement != "server":  # a server's is on its command line
        at_once = engine.max_num_seqs
    reads = config.rollout.max_new_tokens * math.ceil(rows / at_once) * _size(config) * shape.matrices / bandwidth
    return {
        "rollout": max(flops["rollout"] / speed, reads),
        "measure": flops["measure"] / speed,
        "control": passes * STATISTICS_BYTES * tokens * shape.vocabulary / (machine.ranks * bandwidth),
        "update": flops["update"] / speed,
    }


def micro_rows(config: RunConfig) -> int:
    """Responses of one pass on one rank."""
    responses = config.rollout.prompts * config.rollout.responses_per_prompt
    share = max(responses // (config.hardware.ranks * config.update.minibatches), 1)
    return min(config.update.microbatch or share, share)


def _gpus(config: RunConfig) -> int:
    engine = config.rollout.engine
    return engine.workers if isinstance(engine, VLLMConfig) and engine.placement == "server" else config.hardware.ranks


def _size(config: RunConfig) -> int:
    """Bytes of a weight."""
    return 2 if config.engine.dtype == "bfloat16" else 4
