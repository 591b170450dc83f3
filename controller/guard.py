"""Guard rails: limits that no law and no actuator can leave, and a watchdog over the loop as a whole.

Each token is sampled once, so its threshold has no value of the step before. The setting of the actuator has, and
every setting is a function of the command. Limits in size therefore hold for the thresholds of every token, and limits
in rate for what sets them: `rate` for the command, and `transition` for the share of the static thresholds, which
every token of a batch gets alike. With `rate` r a `region` threshold moves by at most standard span r a step, a
`split_range` one by 0.3 r at standard 0.2, and D of `sensitivity` by r of the batch's reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from .actuators.base import FLOOR, WIDEST, Actuation, unclipped
from .actuators.static import Static
from .inputs.configuration import Config
from .limits import WIDEST as LARGEST
from .measure.batch import BatchStatistics
from .measure.policy.density import scale

if TYPE_CHECKING:
    from torch import Tensor

    from .actuators.base import PerToken, Thresholds
    from .measure.tokens import TokenStatistics

Bound = Annotated[float, Field(ge=FLOOR, le=WIDEST)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Mode = Literal["control", "hold", "static", "released"]
MEMORY = 0.9
"""Share of the prompts counted so far that a rollout leaves: some ten rollouts count."""
SURE = 2.0
"""Standard errors by which a share of differing answers must lie beyond a limit."""
MANY = 2.0
"""Multiple of `variety` beyond which prompts have many right answers, however alike they become as entropy falls."""
State = dict[str, Any]
COUNTED = ("prompts", "differing", "many")
"""Prompts in the state: how many, the sum of their shares of differing pairs, and whether that was much."""


@dataclass(frozen=True)
class Watched:
    """Inputs of the watchdog at a step, nats; KL is NaN where none was measured."""

    setpoint: float
    measurement: float
    saturated: bool
    kl: float = math.nan
    density: bool = False
    """Whether the entropy is a density's, of either sign."""
    prompts: int = 0
    """Prompts of the rollout with two rewarded responses or more."""
    variety: float = math.nan
    """Mean over them of the share of pairs of these that differ."""


@dataclass(frozen=True)
class Verdict:
    """Decision of the guard in a step."""

    mode: Mode = "control"
    """Who moves the thresholds from the next step on: the law, nobody, or the static fallback, which hands them back
    or, `released`, does not."""
    static_share: float = 0.0
    """Share of the fallback in every threshold of this step, from 0 (control) to 1."""
    outside: int = 0
    """Steps in a row beyond a limit."""
    kl: float = math.nan
    variety: float = math.nan
    """Mean share of pairs of rewarded responses to a prompt that differ, over the last rollouts."""
    alarm: str | None = None
    """Reason, in the step in which the guard acts."""
    action: str | None = None
    """Action of that step; the one of the configuration, or `static` where prompts have one right answer."""
    stop: str | None = None
    """The same where the run is to be ended, with a checkpoint."""

    def metrics(self) -> dict[str, float]:
        """Numbers to log."""
        return {
            "guard/outside": float(self.outside),
            "guard/acting": float(self.mode != "control"),
            "guard/static_share": self.static_share,
            "guard/alarm": float(self.alarm is not None),
            "guard/kl": self.kl,
            "guard/variety": self.variety,
            "guard/released": float(self.mode == "released"),
        }


class Guard(Config):
    """Limits of the thresholds, and when the loop is taken out of the law's hands.

    A step counts as outside when the entropy is further from the target than `band` while the command is saturated,
    when the KL divergence to the start policy exceeds `kl_limit`, or when no entropy could be measured. After
    `patience` such steps in a row the guard warns and takes its action. `hold` and `static` end after `patience` steps
    inside, whatever the command; the law then goes on from the command in force, and the static share of the thresholds
    falls as it rose. Apart from this, `variety` ends control where prompts have one right answer.
    """

    low: tuple[Bound, Bound] = (FLOOR, WIDEST)
    """Smallest and largest eps_low of any token."""
    high: tuple[Bound, Bound] = (FLOOR, WIDEST)
    """Smallest and largest eps_high of any token."""
    rate: Annotated[float, Field(ge=1e-6, le=2 * LARGEST)] | None = None
    """Largest change of the command from one rollout to the next, whatever law asks for it; none: no limit. A batch
    whose own ends have moved further moves it as far. One that no command moves gets 0, and the next goes on from the
    command before it."""
    band: Annotated[float, Field(gt=0, le=1000)] = 0.25
    """Distance from the target that counts as outside, as a share of the target."""
    kl_limit: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Largest KL divergence to the start policy, nats a token; needs a loop that measures it."""
    patience: Steps = 20
    """Steps in a row outside before the guard acts, and inside before it hands back."""
    variety: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Smallest mean share of pairs of rewarded responses to a prompt that differ. Once the last rollouts have shown
    less, two standard errors below, prompts have one right answer, in which entropy is error: the fallback takes over
    and keeps the thresholds. Not once they have shown twice as much. None: the target is followed whatever the answers
    are. It needs `groups=`, and responses of more than one token."""
    action: Literal["warn", "hold", "static", "stop"] = "warn"
    """Action beyond the warning: keep the command, fall back to static thresholds, or end the run with a checkpoint."""
    fallback: Static = Static()
    """The thresholds of `static`."""
    transition: Steps = 5
    """Steps from control to the fallback, and back."""

    @field_validator("low", "high")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            raise ValueError(f"{list(bounds)} falls; write the smaller half-width first.")
        return bounds

    def start(self) -> State:
        """The state before the first step."""
        counted = dict(zip(COUNTED, (0.0, 0.0, False), strict=True))
        return {"mode": "control", "outside": 0, "inside": 0, "static_share": 0.0} | counted

    def resumed(self, state: State) -> State:
        """A saved state under this guard: without `variety` control is taken up again."""
        return state | {"mode": "control"} if state["mode"] == "released" and self.variety is None else state

    def taken_over(self, state: State) -> State:
        """The state of another guard's run under this one: all begins anew but the share of the fallback and, with
        `variety`, what is known of prompts."""
        fresh = self.start() | {"static_share": state["static_share"]}
        if self.variety is None:
            return fresh
        mode = "released" if state["mode"] == "released" else "control"
        return fresh | {"mode": mode} | {key: state[key] for key in COUNTED}

    def step(self, state: State, seen: Watched) -> tuple[Verdict, State]:
        """One step of the watchdog, pure."""
        state = self._counted(self._answered(state, seen), seen)
        alarm, one = self._alarm(seen) if self._due(state) else None, self._one_answer(state)
        if one:
            state, alarm = state | {"mode": "released", "outside": 0, "inside": 0}, one
        elif alarm and self.action != "warn":
            stays = self.action == "stop" or state["mode"] == "released"
            state = state | {"mode": state["mode"] if stays else self.action, "outside": 0, "inside": 0}
        share = self._share(state)
        verdict = Verdict(
            mode=state["mode"],
            static_share=share,
            outside=self.patience if alarm and not one else state["outside"],
            kl=seen.kl,
            variety=_mean_variety(state),
            alarm=alarm,
            action=None if alarm is None else "static" if one else self.action,
            stop=alarm if self.action == "stop" and not one else None,
        )
        return verdict, state | {"static_share": share}

    def _due(self, state: State) -> bool:
        """Whether patience ends now, or had ended under a guard that only warned, as that of a resumed run may have."""
        late = state["outside"] > self.patience and self.action != "warn" and state["mode"] == "control"
        return state["outside"] == self.patience or bool(late)

    def limited(self, actuation: Actuation, static_share: float, batch: BatchStatistics) -> Actuation:
        """The same actuation with `static_share` of the fallback in its thresholds, and within the limits."""
        fallback = self.fallback.actuate(0.0, batch).rule

        def rule(tokens: TokenStatistics, advantages: Tensor, logprob: Tensor) -> Thresholds:
            low, high = (fallback if static_share == 1 else actuation.rule)(tokens, advantages, logprob)
            if 0 < static_share < 1:
                static_low, static_high = fallback(tokens, advantages, logprob)
                low, high = low.lerp(static_low, static_share), high.lerp(static_high, static_share)
            return low.clamp(*self.low), high.clamp(*self.high)

        known = {0.0: actuation.change, 1.0: unclipped(batch)}
        return replace(
            actuation,
            rule=rule,
            uniform=self._uniform(actuation, static_share),
            change=known.get(static_share, math.nan),
            weigh=_faded(actuation.weigh, 1.0, static_share),
            penalty=_faded(actuation.penalty, 0.0, static_share),
            bonus=(1 - static_share) * actuation.bonus,
            reads_entropy=actuation.reads_entropy and static_share < 1,
        )

    def _uniform(self, actuation: Actuation, static_share: float) -> tuple[float, float] | None:
        """The thresholds of every token where they are the same: the actuator's alone, or the fallback's alone."""
        own = {0.0: actuation.uniform, 1.0: (self.fallback.low, self.fallback.high)}.get(static_share)
        if own is None:
            return None
        return min(max(own[0], self.low[0]), self.low[1]), min(max(own[1], self.high[0]), self.high[1])

    def _counted(self, state: State, seen: Watched) -> State:
        width = self.band * scale(seen.setpoint, seen.density)
        away = abs(seen.setpoint - seen.measurement) > width  # never, where a number is missing
        beyond = self._beyond(seen) or not math.isfinite(seen.measurement)
        if state["mode"] in ("control", "released"):  # a set-point is missing where control was released
            return state | {"outside": state["outside"] + 1 if beyond or (away and seen.saturated) else 0}
        inside = 0 if away or beyond else state["inside"] + 1
        if inside < self.patience:
            return state | {"inside": inside}
        return state | {"mode": "control", "outside": 0, "inside": 0}

    def _beyond(self, seen: Watched) -> bool:
        return self.kl_limit is not None and seen.kl > self.kl_limit

    def _share(self, state: State) -> float:
        """One `transition`-th towards the mode; the end is met exactly."""
        share, end = float(state["static_share"]), float(state["mode"] in ("static", "released"))
        step = 1 / self.transition
        return end if abs(end - share) <= step + 1e-9 else share + math.copysign(step, end - share)

    def _one_answer(self, state: State) -> str | None:
        """Why prompts have one right answer each, in the step in which that is clear."""
        if self.variety is None or state["mode"] == "released" or state["many"]:
            return None
        if not _interval(state)[1] < self.variety:
            return None
        return (
            f"prompts have one right answer, where entropy kept is error: of {state['prompts']:.0f} with two rewarded "
            f"responses or more {_mean_variety(state):.1%} of the pairs differ; write `guard: {{variety: null}}` to "
            "follow the target nevertheless"
        )

    def _answered(self, state: State, seen: Watched) -> State:
        """The state with the rollout's prompts counted in."""
        prompts, share = (seen.prompts, min(seen.variety, 1.0)) if math.isfinite(seen.variety) else (0, 0.0)
        differing = MEMORY * state["differing"] + prompts * share
        state = state | {"prompts": MEMORY * state["prompts"] + prompts, "differing": differing}
        many = self.variety is not None and _interval(state)[0] > min(MANY * self.variety, (1 + self.variety) / 2)
        return state | {"many": state["many"] or many}

    def _alarm(self, seen: Watched) -> str:
        if not math.isfinite(seen.measurement):
            now = "the loop had no entropy to go by, now none either: the measurement is not finite"
        elif self._beyond(seen):
            now = f"the KL divergence to the start policy was above {self.kl_limit:g}, now {seen.kl:.3g} nats a token"
        else:
            now = f"entropy was outside {self.band:.0%} of its target with the command at its end"
            now += f", now {seen.measurement:.3g} nats for {seen.setpoint:.3g}"
        return f"for {self.patience} steps {now}"


def _interval(state: State) -> tuple[float, float]:
    """Wilson's interval (1927) of the share of differing pairs, `SURE` standard errors wide; a prompt counts once."""
    n, z2 = state["prompts"], SURE**2
    if n == 0:
        return 0.0, 1.0
    p = _mean_variety(state)
    middle, half = p + z2 / (2 * n), SURE * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)


def _mean_variety(state: State) -> float:
    return min(state["differing"] / state["prompts"], 1.0) if state["prompts"] else math.nan


def _faded(per_token: PerToken | None, rest: float, static_share: float) -> PerToken | None:
    """Weights or penalties, faded: unchanged at share 0, at share 1 the value `rest` of a plain surrogate."""
    if per_token is None or static_share == 0:
        return per_token
    return None if static_share == 1 else lambda batch: rest + (1 - static_share) * (per_token(batch) - rest)
