"""The state of the loop: everything that a resumed run needs, as plain JSON values and back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..guard import State as GuardState
from ..inputs.errors import InputError, one_line
from ..inputs.extension import identity
from ..inputs.state import count, number, restored
from ..laws.base import Law
from ..laws.base import State as LawState
from ..limits import FARTHEST, HIGHEST
from ..targets import LONGEST, Target
from .clock import Clock

if TYPE_CHECKING:
    from .config import ControlConfig

VERSION = 8


@dataclass(frozen=True)
class LoopState:
    """The loop between two rollouts."""

    law: LawState
    guard: GuardState
    step: int = 0
    """Rollouts that were decided on."""
    clock: Clock = field(default_factory=Clock)
    """How far along the target curve."""
    initial: float | None = None
    """The run's first measured entropy, nats."""
    total: int | None = None
    """Steps of the run, as the loop told them first; its curve keeps them where the run is extended."""
    held: int = 0
    """Measurements that were not finite."""
    hand_over: bool = False
    """Whether the law takes the loop over at the next measurement, bumplessly."""

    @classmethod
    def start(cls, config: ControlConfig) -> LoopState:
        """The state before the first rollout."""
        return cls(law=config.law.start(), guard=config.guard.start())

    def under(self, old: ControlConfig, new: ControlConfig) -> LoopState:
        """The state as `new` takes it over from `old` during a run: the command goes on from where it is."""
        law = self.law if identity(new.law, Law) == identity(old.law, Law) else new.law.start(self.law["command"])
        return replace(self, law=law, guard=new.guard.taken_over(self.guard), hand_over=True)

    def target(self, config: ControlConfig) -> Target | None:
        """The curve, drawn over the run."""
        return None if config.target is None else config.target.with_total(self.total)

    def plain(self, config: ControlConfig) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": VERSION,
            "step": self.step,
            "clock": list(self.clock),
            "initial_entropy": self.initial,
            "total": self.total,
            "law": {"type": identity(config.law, Law)} | self.law,
            "guard": self.guard,
            "held": self.held,
            "hand_over": self.hand_over,
            "followed": followed(config),
        }


def loop_state(saved: Any, config: ControlConfig) -> LoopState:
    """The state that `LoopState.plain` wrote; one of another law, gains or target is taken over without a bump.
    Raises InputError: it is not one of this version, or it is damaged.
    """
    if not isinstance(saved, dict) or saved.get("version") != VERSION:
        given = saved.get("version") if isinstance(saved, dict) else type(saved).__name__
        raise InputError(f"controller state has version {given!r}; give one saved with version {VERSION}.")
    try:
        return _read(saved, config)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"controller state is damaged ({_reason(error)}); load an earlier checkpoint.") from None


def followed(config: ControlConfig) -> int:
    """A checksum of what makes a command of a reading: under another law or target a saved state's terms are others."""
    law = f"{identity(config.law, Law)} {config.law.model_dump_json()}"
    return zlib.crc32(f"{law} {config.target and config.target.model_dump_json()}".encode())


def _read(saved: dict[str, Any], config: ControlConfig) -> LoopState:
    law = dict(saved["law"])
    foreign = law.pop("type") != identity(config.law, Law)
    fresh = config.law.start(number(law["command"], -FARTHEST, FARTHEST))
    law = fresh if foreign else restored(fresh, law)
    config.law.check(law)
    guard = config.guard.resumed(loaded := restored(config.guard.start(), saved["guard"]))
    number(guard["static_share"], 0, 1)
    number(guard["differing"], 0, number(guard["prompts"], 0, LONGEST))
    initial = saved["initial_entropy"]
    return LoopState(
        law=law,
        guard=guard,
        step=count(saved["step"]),
        clock=Clock(*(number(value, 0, LONGEST) for value in saved["clock"])),
        initial=None if initial is None else number(initial, 0, HIGHEST),
        total=None if saved["total"] is None else int(number(saved["total"], 1, LONGEST)),
        held=count(saved["held"]),
        hand_over=foreign
        or bool(saved["hand_over"])
        or count(saved["followed"]) != followed(config)
        or guard["mode"] != loaded["mode"],
    )


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
