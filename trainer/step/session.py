"""State of a running loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entrostat.control import EntropyController
from entrostat.decision import Decision

from ..config import RunConfig
from ..engine.engine import Engine
from ..rollout import Sampler
from ..tasks.base import Task
from .reference import Reference

if TYPE_CHECKING:
    from .batch import Batch


@dataclass
class Session:
    """Parts of a running loop."""

    config: RunConfig
    engine: Engine
    tokenizer: Any
    sampler: Sampler
    task: Task
    control: EntropyController
    reference: Reference | None = None
    """The start policy, where the guard or the evaluation asks for the KL divergence to it."""
    learning_rate: Callable[[int], float] | None = None
    """Learning rate of an optimizer step, counted over the run; none: it stays."""
    shares_prompts: bool | None = None
    """Whether passes read a prompt once for its responses; none: not decided yet."""
    on_step_end: Callable[[Session, int, Batch, Decision], None] | None = None
    """Called after each update, for what a report shows of the inside of a step."""
