"""A training run's configuration, as `entrostat train` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from entrostat.inputs.configuration import Config, parse, read_yaml, set_dotted
from entrostat.inputs.errors import InputError
from entrostat.inputs.extension import CUSTOM, custom
from entrostat.inputs.yaml_text import load_yaml
from entrostat.loop.config import ControlConfig, control_content
from entrostat.targets import anchored, beside

from .address import experiment_name, tracking_uri
from .tasks.base import CustomTask
from .tasks.dataset import DatasetConfig
from .tasks.reasoning import ReasoningConfig
from .tracker import CustomTracker

Count = Annotated[int, Field(ge=1, le=10**9)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


OF_A_SERVER = {"workers": "leave it out, or write `placement: server` and its `url`"}
UNREAD = {
    "in_process": OF_A_SERVER | {"timeout": "leave it out, or write `placement: process` or `placement: server`"},
    "process": OF_A_SERVER,
    "server": {
        key: f"leave it out, and start the server with `--{option}`"
        for key, option in {
            "gpu_memory_utilization": "gpu-memory-utilization",
            "kv_cache": "kv-cache-memory-bytes",
            "tensor_parallel_size": "tensor-parallel-size",
            "max_model_len": "max-model-len",
            "max_num_seqs": "max-num-seqs",
            "enforce_eager": "enforce-eager",
        }.items()
    },
}
"""Placement -> keys of vLLM that it does not read, and what to do instead."""


class TransformersConfig(Config):
    """Sampling from the policy itself, with transformers."""

    type: Literal["transformers"] = "transformers"


class VLLMConfig(Config):
    """Sampling with vLLM, which is given the policy's weights after every update."""

    type: Literal["vllm"]
    placement: Literal["in_process", "process", "server"] = "in_process"
    """`in_process` and `process`: an engine for each rank, on its own GPU; `server`: one that all ranks share,
    whose memory, lengths and GPUs are those of its own command line."""
    url: str | None = None
    """Address of the server, as in http://10.0.0.2:8000."""
    workers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processes of the server: its tensor times its data parallel size."""
    timeout: Annotated[float, Field(gt=0, le=1e5)] = 600.0
    """Seconds that the server may take for one answer, or the second process for the weights."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a GPU that an engine beside the trainer takes, weights and key-value cache together."""
    kv_cache: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """GiB of an engine's key-value cache; none: what `gpu_memory_utilization` leaves, 0.25 on the CPU."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=1024)] = 1
    """GPUs of one engine: 1 beside the trainer; a server has those of its own command line."""
    max_model_len: Count | None = None
    """Tokens of prompt and answer; none: the model's own limit."""
    max_num_seqs: Count = 256
    """Responses sampled at once."""
    enforce_eager: bool = False
    """Run without CUDA graphs: it starts faster and samples slower."""

    @model_validator(mode="after")
    def _server_has_url(self) -> VLLMConfig:
        if (self.placement == "server") != (self.url is not None):
            raise ValueError("`url` goes with `placement: server`, and only with it; write both or neither.")
        return self

    @model_validator(mode="after")
    def _placement_reads_what_is_given(self) -> VLLMConfig:
        size, placement = self.tensor_parallel_size, self.placement
        if size > 1 and placement != "server":  # ranks that share an engine would have to sample the same prompts
            raise ValueError(
                f"an engine beside the trainer has one GPU, and `tensor_parallel_size` is {size}; start a server with "
                f"`--tensor-parallel-size {size}`, and write `placement: server`, `workers: {size}` and its `url`."
            )
        for key, remedy in UNREAD[placement].items():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:  # a saved configuration has all defaults
                raise ValueError(f"`{key}` is {value}, which `placement: {placement}` does not read; {remedy}.")
        return self


SamplerConfig = Annotated[TransformersConfig | VLLMConfig, Field(discriminator="type")]


class RolloutConfig(Config):
    """How answers are sampled."""

    engine: SamplerConfig = TransformersConfig()
    truncation: Annotated[float, Field(ge=1, le=1000)] | None = 3.0
    """Largest importance weight p_trainer / p_sampler of a token (vLLM only; TRL's default); none: no correction."""
    mismatch_limit: Annotated[float, Field(gt=0, le=100)] | None = None
    """Largest mean difference of ln p between sampler and trainer, nats; none: 0.001 in float32, 0.1 in bfloat16."""

    prompts: Count = 64
    """Prompts a step, over all ranks."""
    responses_per_prompt: Annotated[int, Field(ge=2, le=10**6)] = 8
    """The group of GRPO's advantage."""
    max_new_tokens: Count = 16
    """Longest answer, tokens."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Texts that end an answer, beside the model's own end; the token that completes one counts as the answer's
    last."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Temperature of the sampling, and of the entropy that is controlled."""
    reward_seconds: Annotated[float, Field(ge=0.01, le=3600)] = 10.0
    """Time limit for the reward of one answer; a group in which one has none is left out of the step."""


class LoRAConfig(Config):
    """Low-rank changes of linear layers in place of all weights (arXiv 2106.09685), by peft."""

    type: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1, le=65536)] = 16
    """Rank of each change."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 32
    """A change is scaled by `alpha` / `rank`."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Layers that are changed, as their names end: [q_proj, v_proj]; or all but the head."""


Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]


class UpdateConfig(Config):
    """How a rollout batch becomes gradient steps."""

    minibatches: Count = 8
    """Optimizer steps an epoch."""
    microbatch: Count | None = None
    """Responses of one forward and backward pass on a rank, gradients accumulating, and of one measuring pass; none: a
    rank's whole share of a minibatch."""
    shuffle: Literal["responses", "prompts"] = "responses"
    """Unit that is shuffled over the minibatches: single responses, or prompts with all of their responses. Passes then
    read each prompt once, and their common beginning once: faster where answers are short beside their prompts. The
    same numbers to rounding; not with `gradient_checkpointing`, `without_logits` or ZeRO-3, which read whole
    sequences."""
    epochs: Count = 1
    """Passes over the rollout batch."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 3e-4
    """Learning rate of AdamW, at its highest."""
    schedule: Schedule | None = None
    """Schedule of the learning rate over the run's optimizer steps, by transformers' name; none: constant."""
    warmup: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Steps over which the learning rate rises from 0."""
    schedule_options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the schedule by transformers' names, in optimizer steps: {num_decay_steps: 100}, ..."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """Betas of AdamW; the first, to the power of the updates per rollout, is the plant's lag."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """AdamW's."""
    gradient_clipping: Annotated[float, Field(ge=0, le=1e9)] = 1.0
    """Largest gradient norm; 0: no clipping."""


class EngineConfig(Config):
    """Configuration of DeepSpeed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU where there is one."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """Parts that are sharded over the ranks: 1 the optimizer's state, 2 gradients too, 3 weights too."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights; statistics are float32 in either case."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in the machine's memory (ZeRO 1 to 3)."""
    offload_parameters: bool = False
    """Keep weights there while they are not used (ZeRO 3)."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: a third more time, far less memory."""
    without_logits: bool = False
    """Measure from hidden states, by blocks, so that no [responses, time, vocabulary] tensor exists: for vocabularies
    of many thousands. The same numbers to float32 rounding; compared with the logits at the first pass."""
    deepspeed: str | dict[str, Any] | None = None
    """DeepSpeed's own JSON, or its path, laid over what follows from the keys above."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of a rank; none: PyTorch's own choice. A model of a few 100,000 parameters is fastest on 1."""


class EvaluationConfig(Config):
    """Held-out evaluation; it never touches the controller."""

    every: Count = 50
    """Steps between evaluations; the last step is always evaluated."""
    prompts: Count = 100
    """Held-out problems, the same ones each time."""
    samples: Annotated[int, Field(ge=8, le=10**6)] = 16
    """Answers a prompt, for pass_at_1, pass_at_8 and distinct."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Sampling temperature of these answers, whatever the rollouts' is; greedy answers are at 0."""
    divergence: bool = False
    """Whether the KL divergence to the start policy is measured too, which keeps a second model in memory."""


class CheckpointConfig(Config):
    """When the run is saved."""

    every: Count = 25
    """Steps between checkpoints; the last step is always saved."""
    keep: Count = 2
    """Newest checkpoints that are kept."""


OwnTracker = Annotated[CustomTracker | None, *custom(CustomTracker, CUSTOM)]


class TrackingConfig(Config):
    """Trackers of the run, besides its folder."""

    mlflow: str | None = Field(default_factory=tracking_uri)
    """MLflow's tracking URI; none: only the run's folder. Left out: what MLFLOW_TRACKING_URI says, or
    sqlite:///mlflow.db."""
    experiment: str = Field(default_factory=experiment_name)
    """MLflow's experiment. Left out: what MLFLOW_EXPERIMENT_NAME says, or entrostat."""
    parent: str | None = None
    """MLflow's id of the run that this one is a part of."""
    tensorboard: bool = False
    """Whether event files are written too, to `OUT/tensorboard`."""
    wandb: Literal["online", "offline"] | None = None
    """Weights & Biases: on its server, or in `OUT/wandb` for `wandb sync`; none: not at all."""
    custom: OwnTracker = None
    """A tracker of your own, {import_path: module:Class}; none: not at all."""
    attachments: list[Path] = Field(default_factory=list)
    """Files that MLflow and W&B keep with the run's own: an identified plant, a tuning's picture."""
    snapshots: Annotated[int, Field(ge=0, le=1000)] = 40
    """Steps of which the report shows tokens, answers and the authority curve, spread over the run; 0: none."""


class HardwareConfig(Config):
    """The machine, for `entrostat plan`; training takes what the launcher gives it."""

    ranks: Annotated[int, Field(ge=1, le=100_000)] = 1
    """GPUs that train, over all nodes."""
    memory: Annotated[float, Field(gt=0, le=1e6)] = 80.0
    """GiB of one."""
    tflops: Annotated[float, Field(gt=0, le=1e6)] = 989.0
    """Dense bfloat16 peak of one (H100: 989, A100: 312, L4: 121)."""
    bandwidth: Annotated[float, Field(gt=0, le=1e3)] = 3.35
    """TB/s of its memory (H100: 3.35, A100: 2.0, L4: 0.3)."""
    efficiency: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the peak that training reaches."""


def _kind_of_task(given: Any) -> str:
    if isinstance(given, str):
        return "a name"
    named = "reasoning_gym" in given if isinstance(given, dict) else isinstance(given, ReasoningConfig)
    return "generators" if named else "a data set"


TaskConfig = Annotated[
    Annotated[str, Tag("a name")]
    | Annotated[DatasetConfig, Tag("a data set")]
    | Annotated[ReasoningConfig, Tag("generators")],
    Discriminator(_kind_of_task),
    *custom(CustomTask),
]


class RunConfig(Config):
    """One RLVR run."""

    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """Prompts, answers and the order of minibatches follow from it."""
    steps: Count = 150
    """Rollout batches."""
    task: TaskConfig = "expressions"
    """Task to learn: the name of a small task that ships with the package, a data set, {dataset: gsm8k},
    generators, {reasoning_gym: chain_sum}, or a class of your own, {type: custom, import_path: module:Class}."""
    model: str = "expressions"
    """`expressions`, the warm-started model that ships with the package, `smollm2`, the path of a GGUF file, or a path
    or name for transformers."""
    chat: bool = False
    """Put each prompt into the tokenizer's chat template, as a user's turn."""
    system: str | None = None
    """The chat's system prompt; none: the template's own, if it has one."""
    adapter: LoRAConfig | None = None
    """Adapter to train in place of all weights; none: all weights."""
    rollout: RolloutConfig = RolloutConfig()
    update: UpdateConfig = UpdateConfig()
    control: ControlConfig = Field(
        default_factory=lambda: ControlConfig.model_validate(
            {"law": {"type": "manual"}, "actuator": {"type": "static"}}
        )
    )
    """The content of a `control.yaml`, its path, beside the run's YAML or in the working folder, or `default`: the
    recommended curve, law, actuator and guard. Without it: static clipping at 0.2."""
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    engine: EngineConfig = EngineConfig()
    hardware: HardwareConfig = HardwareConfig()

    @property
    def updates(self) -> int:
        """Optimizer steps a rollout."""
        return self.update.minibatches * self.update.epochs

    @property
    def watches_start(self) -> bool:
        """Whether the KL divergence to the start policy is measured."""
        return self.control.guard.kl_limit is not None or self.evaluation.divergence

    @field_validator("control", mode="before")
    @classmethod
    def _read_control(cls, value: Any) -> Any:
        return control_content(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        target, task, limit = self.control.target, self.task, self.rollout.reward_seconds
        if self.system is not None and not self.chat:
            raise ValueError("`system` is a turn of a chat, and `chat` is false; write `chat: true`, or leave it out.")
        if target is not None and target.pace == "success":
            raise ValueError("`control.target.pace` is success, which this trainer does not count; write `pace: time`.")
        responses = self.rollout.prompts * self.rollout.responses_per_prompt
        if responses % self.update.minibatches:
            raise ValueError(
                f"{responses} responses do not divide into {self.update.minibatches} minibatches; write a "
                "`update.minibatches` that divides `rollout.prompts` * `rollout.responses_per_prompt`."
            )
        if self.update.shuffle == "prompts" and self.rollout.prompts % self.update.minibatches:
            raise ValueError(
                f"{self.rollout.prompts} prompts do not divide into {self.update.minibatches} minibatches; write a "
                "`rollout.prompts` that is a multiple of `update.minibatches`, or `update.shuffle: responses`."
            )
        seconds = 0.0
        if isinstance(task, ReasoningConfig) or (isinstance(task, DatasetConfig) and task.reward == "math"):
            seconds = task.seconds
        if seconds >= limit:
            raise ValueError(
                f"`task.seconds` is {seconds:g}, and `rollout.reward_seconds`, {limit:g}, would cut its answers "
                f"off before they are found wrong; write a `task.seconds` below {limit:g}."
            )
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that a YAML file describes, with `dotted.key=value` overrides laid over it.

    `excite=prbs`, `excite=staircase` or `excite={amplitude: 0.4}` stands for `control.law={type: excitation, ...}`; a
    staircase of no other amplitude goes from end to end of each batch.
    Raises InputError: the file or an override cannot be read, or something in it does not fit.
    """
    content = read_yaml(path)
    _find_files(content, Path(path).parent)
    for override in overrides:
        _lay_over(content, override)
        _find_files(content, Path())
    return parse(RunConfig, content, source=str(path))


def _find_files(content: dict[str, Any], folder: Path) -> None:
    """Put a control's content where its file is named, so that overrides reach into it, and find its target's file."""
    control = content.get("control")
    if isinstance(control, str):
        content["control"] = control_content(str(beside(control, folder)))
    elif isinstance(control, dict):
        content["control"] = anchored(control, folder)


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; it loads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _lay_over(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(
            f"`{override}` is not an override; write `dotted.key=value`, as in `update.learning_rate=1e-4`."
        )
    where = f"`{override}`"
    given = load_yaml(value, where, "quote the value")
    if key == "excite":
        given = given if isinstance(given, dict) else {"shape": given}
        whole = {"amplitude": 1.0} if given.get("shape") == "staircase" and not given.get("offset") else {}
        key, given = "control.law", {"type": "excitation"} | whole | given
    try:
        set_dotted(content, key, given)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
