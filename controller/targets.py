"""Target curves: the entropy that a run is asked to have at every step, in nats.

A curve is written in nats, or (`unit: initial`) as a multiple of the run's own initial entropy, which is
known only once the run has been measured; `target.at(step, initial)` then needs that number. `unit: differential` is
nats too, of a policy over continuous actions, whose differential entropy may be negative.
Its steps are rollouts, or (`time: run`) shares of the run, whose length the loop tells: `target.with_total(steps)`.
The shapes increase-then-decrease, decrease-increase-decrease and oscillatory decay are the ones that
Flexible Entropy Control (arXiv 2602.09782, section 4) drives open loop with threshold schedules; here they are
curves to be tracked.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from .inputs.configuration import Config, read_yaml
from .inputs.errors import InputError, shorten
from .inputs.table_file import STEPS, SUFFIXES, TENSORBOARD, read_table
from .limits import HIGHEST

LOWEST = 1e-6
"""Nats (or multiples), for the ends of a curve that is straight in ln H."""
SHORTEST, LONGEST = 1e-3, 1e9
"""Steps: of ramps, periods and the distance between the points of a table."""

Floats = NDArray[np.float64]


def _of_its_unit(level: float, info: ValidationInfo) -> float:
    if level < 0 and info.data.get("unit") != "differential":
        raise ValueError(
            f"{level:g} is below 0, the entropy of a certain choice; write 0 or more, or `unit: differential` for a "
            "policy over continuous actions."
        )
    return level


Level = Annotated[float, Field(ge=-HIGHEST, le=HIGHEST), AfterValidator(_of_its_unit)]
Step = Annotated[float, Field(ge=-LONGEST, le=LONGEST)]
Steps = Annotated[float, Field(ge=SHORTEST, le=LONGEST)]


Unit = Literal["nats", "initial", "differential"]


class Curve(Config):
    """Base of all targets: a unit, a clock, and values at any step."""

    unit: Unit = "nats"
    """`nats`, `initial` for multiples of the run's own initial entropy, or `differential` for nats of either sign."""
    time: Literal["steps", "run"] = "steps"
    """`steps`, or `run`: whatever counts steps here counts shares of the run, 1 being its end. Where `steps` is left
    out the curve lasts the whole run."""
    total: Steps | None = None
    """Steps of the run, for `time: run`; none: those that the loop tells."""
    pace: Literal["time", "success"] = "time"
    """`time`, or `success`, where rewards are rare at first: a rollout advances the curve by the share of episodes that
    earned more than the least, and what is left of it is spread over what is left of the run."""

    @model_validator(mode="before")
    @classmethod
    def _last_the_whole_run(cls, content: object) -> object:
        known = cls.model_fields.get("steps")
        if isinstance(content, dict) and known and known.is_required() and content.get("time", "run") == "run":
            return content if "steps" in content else content | {"time": "run", "steps": 1.0}
        return content

    @model_validator(mode="after")
    def _end_within_the_run(self) -> Self:
        if self.time == "run" and self._last() > 1:
            raise ValueError(
                f"`time` is run, which counts in shares of it, and the curve ends at {self._last():g}; write at most "
                "1, or `time: steps`."
            )
        return self

    @model_validator(mode="after")
    def _know_its_end(self) -> Self:
        if self.pace == "success" and self.time != "run":
            raise ValueError("`pace: success` ends with the run, and `time` is steps; write `time: run`.")
        return self

    def with_total(self, steps: float | None) -> Self:
        """The same curve drawn over a run of `steps`; a length that it has already stays."""
        if self.time == "steps" or self.total is not None:
            return self
        return self.model_copy(update={"total": steps})

    @property
    def relative(self) -> bool:
        """Whether it needs the run's initial entropy."""
        return self.unit == "initial"

    def at(self, step: ArrayLike, initial: float | None = None) -> Floats:
        """The target in nats at `step` (scalar or array, steps), below zero for `unit: differential` only.

        Args:
            initial: the run's initial entropy in nats; needed where the curve is `relative`.

        Raises:
            InputError: no initial entropy is given and the unit is `initial`, or the length of the run is not known.
        """
        step = np.asarray(step, dtype=float)
        if self.time == "run":
            if self.total is None:
                raise InputError(
                    "the target counts in shares of the run, whose length is not known; give "
                    "`EntropyController(total_steps=)`, in rollouts, or write `target.total`."
                )
            step = step / self.total
        return self._nats(step, initial)

    def _nats(self, step: Floats, initial: float | None) -> Floats:
        """The values at steps, or shares of the run."""
        return _in_nats(self._shape(step), self.unit, initial)

    def _shape(self, step: Floats) -> Floats:
        raise TypeError(f"{type(self).__name__} draws no curve")

    def _last(self) -> float:
        """Last step that the curve names."""
        return float(getattr(self, "steps", 0.0))


def _in_nats(level: ArrayLike, unit: Unit, initial: float | None) -> Floats:
    values = np.asarray(level, dtype=float)
    if unit == "differential":
        return values
    values = np.asarray(np.maximum(values, 0.0))
    if unit == "nats":
        return values
    if initial is None:
        raise InputError(
            "the target is in multiples of the initial entropy, which is not known; give it in nats, as `initial` or, "
            "to a command, `--initial`."
        )
    return np.asarray(values * initial)


class Constant(Curve):
    """`value` at every step."""

    type: Literal["constant"] = "constant"
    value: Level
    """The entropy to hold."""

    def _shape(self, step: Floats) -> Floats:
        return np.full_like(step, self.value)


class _Ramp(Curve):
    start: Level
    """The target at step 0."""
    end: Level
    """The target from `steps` on."""
    steps: Steps
    """Steps from `start` to `end`; the curve stays at `end` afterwards."""

    def _fraction(self, step: Floats) -> Floats:
        return np.clip(step / self.steps, 0.0, 1.0)


class Linear(_Ramp):
    """A straight line: start + (end - start) k / steps."""

    type: Literal["linear"] = "linear"

    def _shape(self, step: Floats) -> Floats:
        return self.start + (self.end - self.start) * self._fraction(step)


class Cosine(_Ramp):
    """Half a cosine: end + (start - end) (1 + cos(pi k / steps)) / 2."""

    type: Literal["cosine"] = "cosine"

    def _shape(self, step: Floats) -> Floats:
        swing = (1 + np.cos(np.pi * self._fraction(step))) / 2
        return self.end + (self.start - self.end) * swing


class Exponential(_Ramp):
    """A straight line in ln H: start (end / start)^(k / steps); both ends above zero."""

    type: Literal["exponential"] = "exponential"
    start: Annotated[float, Field(ge=LOWEST, le=HIGHEST)]
    """The target at step 0."""
    end: Annotated[float, Field(ge=LOWEST, le=HIGHEST)]
    """The target from `steps` on."""

    def _shape(self, step: Floats) -> Floats:
        return np.asarray(self.start * (self.end / self.start) ** self._fraction(step))


HOLD, TURN, END, ENDED = 0.85, 0.0, 0.5, 0.3
"""The recommended curve: from 0.85 of the initial entropy, without a hold, to half of it at 30 % of the run."""


class HoldThenAnneal(Curve):
    """`hold` until `turn`, then half a cosine down (or up) to `end`, which is reached at `steps`.

    Without a key it is the recommended curve, in shares of the run and of its initial entropy: an early fall to a level
    that lasts, since a policy that is held high learns little, and one that ends sharp has spent its variety.
    """

    type: Literal["hold_then_anneal"] = "hold_then_anneal"
    unit: Unit = "initial"
    """Unit of `hold`: `initial` for multiples of the run's own initial entropy, `nats`, or `differential`."""
    time: Literal["steps", "run"] = "run"
    """Unit of `turn` and `steps`: `run` for shares of the run, or `steps`, where that key is to be given."""
    hold: Level = HOLD
    """The entropy to hold."""
    end: Level = END
    """The entropy from `steps` on."""
    end_unit: Literal["nats", "initial"] | None = None
    """Unit of `end`; none: that of `hold`."""
    turn: Annotated[float, Field(ge=0, le=LONGEST)] = TURN
    """End of the hold, in the unit of `time`; 0 falls from the first step."""
    steps: Steps = ENDED
    """Time at which `end` is reached, in the unit of `time`."""

    @model_validator(mode="after")
    def _knows_its_last_step(self) -> Self:
        if self.time == "steps" and "steps" not in self.model_fields_set:
            raise ValueError(
                f"`time` is steps and `steps` is left out, {self.steps:g}, a share of the run; write the step at which "
                "`end` is reached, or leave `time` out."
            )
        return self

    @model_validator(mode="after")
    def _turns_first(self) -> HoldThenAnneal:
        if self.turn >= self.steps:
            raise ValueError(
                f"`turn` is {self.turn:g}, not before `steps`, {self.steps:g}, at which the end is reached; write a "
                "smaller `turn` or a larger `steps`."
            )
        if self.end < 0 and self.end_unit is not None:
            raise ValueError(
                f"`end` is {self.end:g}, and its `end_unit` {self.end_unit}, in which nothing is below 0; leave "
                "`end_unit` out."
            )
        return self

    @property
    def relative(self) -> bool:
        """Whether it needs the run's initial entropy."""
        return "initial" in (self.unit, self.end_unit)

    def _nats(self, step: Floats, initial: float | None) -> Floats:
        hold, end = _in_nats(self.hold, self.unit, initial), _in_nats(self.end, self.end_unit or self.unit, initial)
        fallen = np.clip((step - self.turn) / (self.steps - self.turn), 0.0, 1.0)
        return np.asarray(end + (hold - end) * (1 + np.cos(np.pi * fallen)) / 2)


class IncreaseThenDecrease(Curve):
    """Straight lines start -> peak -> end, the peak at `ratio` of `steps`."""

    type: Literal["increase_then_decrease"] = "increase_then_decrease"
    start: Level
    """The target at step 0."""
    peak: Level
    """The target at the bend."""
    end: Level
    """The target from `steps` on."""
    steps: Steps
    """Steps of the whole curve."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Place of the peak, as a share of `steps`."""

    def _shape(self, step: Floats) -> Floats:
        return np.interp(step, [0, self.ratio * self.steps, self.steps], [self.start, self.peak, self.end])


class DecreaseIncreaseDecrease(Curve):
    """Straight lines start -> trough -> peak -> end, with the trough and the peak at `ratios` of `steps`."""

    type: Literal["decrease_increase_decrease"] = "decrease_increase_decrease"
    start: Level
    """The target at step 0."""
    trough: Level
    """The target at the first bend."""
    peak: Level
    """The target at the second bend."""
    end: Level
    """The target from `steps` on."""
    steps: Steps
    """Steps of the whole curve."""
    ratios: tuple[float, float] = (1 / 3, 2 / 3)
    """Places of the trough and of the peak, as shares of `steps`."""

    @field_validator("ratios")
    @classmethod
    def _ordered(cls, ratios: tuple[float, float]) -> tuple[float, float]:
        if not 0 < ratios[0] < ratios[1] < 1:
            raise ValueError(f"{list(ratios)} does not rise within 0 and 1; write two numbers that do.")
        return ratios

    def _shape(self, step: Floats) -> Floats:
        knots = [0.0, self.ratios[0] * self.steps, self.ratios[1] * self.steps, self.steps]
        return np.interp(step, knots, [self.start, self.trough, self.peak, self.end])


class OscillatoryDecay(Curve):
    """A swing about a level: centre + amplitude exp(-k / decay) sin(2 pi k / period + phase)."""

    type: Literal["oscillatory_decay"] = "oscillatory_decay"
    centre: Level
    """The level that it swings about."""
    amplitude: Annotated[float, Field(ge=0, le=HIGHEST)]
    """Largest distance from the centre, at most `centre` unless the unit is `differential`."""
    period: Steps
    """Steps of one swing."""
    decay: Steps | None = None
    """Steps in which the swing shrinks by e; none: it does not shrink."""
    phase: Annotated[float, Field(ge=-LONGEST, le=LONGEST)] = 0.0
    """Radians; pi / 2 starts at the top of the swing."""

    @model_validator(mode="after")
    def _stays_above_zero(self) -> OscillatoryDecay:
        if self.amplitude > self.centre and self.unit != "differential":
            raise ValueError(
                f"amplitude {self.amplitude} exceeds centre {self.centre}, so the target would be negative; "
                f"write an amplitude of at most {self.centre}."
            )
        return self

    def _shape(self, step: Floats) -> Floats:
        envelope = 1.0 if self.decay is None else np.exp(-step / self.decay)
        swing = np.sin(2 * math.pi * step / self.period + self.phase)
        return np.asarray(self.centre + self.amplitude * envelope * swing)


class Table(Curve):
    """Points `[step, value]`, joined by lines or by a smooth curve that does not overshoot (PCHIP).

    Points come from `points`, or from `file`, a CSV of two columns, step and value, with or without a header line, or
    what TensorBoard or Weights & Biases exports of one curve.
    """

    type: Literal["table"] = "table"
    points: list[tuple[Step, Level]] = Field(default_factory=list, validate_default=True)
    """`[step, value]` pairs, at least two, their steps rising; before the first and after the last it is flat."""
    file: Path | None = None
    """A file to read the points from where none are given, beside the file that names it or in the working folder."""
    interpolation: Literal["linear", "smooth"] = "linear"
    """How the points are joined."""

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, content: object) -> object:
        if isinstance(content, dict) and content.get("file") is not None and not content.get("points"):
            return content | {"points": read_points(Path(str(content["file"])))}
        return content

    @field_validator("points")
    @classmethod
    def _steps_rise(cls, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        if len(points) < 2:
            raise ValueError(f"a table needs at least two points and has {len(points)}; write [[0, 0.9], [100, 0.5]].")
        for (before, _), (after, _) in pairwise(points):
            if after - before < SHORTEST:
                raise ValueError(
                    f"step {after:g} comes after step {before:g}; write the points in rising order, at least "
                    f"{SHORTEST:g} steps apart."
                )
        return points

    def _last(self) -> float:
        return self.points[-1][0]

    def _shape(self, step: Floats) -> Floats:
        steps, values = (np.array(column, dtype=float) for column in zip(*self.points, strict=True))
        if self.interpolation == "smooth":
            from scipy.interpolate import PchipInterpolator  # half a second to import, and rarely wanted

            return np.asarray(PchipInterpolator(steps, values)(np.clip(step, steps[0], steps[-1])))
        return np.asarray(np.interp(step, steps, values))


Target = Annotated[
    Constant
    | Linear
    | Cosine
    | Exponential
    | HoldThenAnneal
    | IncreaseThenDecrease
    | DecreaseIncreaseDecrease
    | OscillatoryDecay
    | Table,
    Field(discriminator="type"),
]


def read_points(path: Path) -> list[tuple[float, float]]:
    """The (step, value) rows of a table file: its only two columns, or the only two that hold a curve.

    Steps come first, unless the other column is called so. pandas' index, TensorBoard's wall time and the bounds that
    Weights & Biases adds to a chart are passed over.

    Raises:
        InputError: the file cannot be read, is too large, or holds another number of columns.
    """
    table = read_table(path, "a CSV of step and value", names=("step", "value"))
    kept = list(range(len(table.header)))
    if len(kept) > 2:
        kept = [index for index in kept if not _beside_a_curve(table.header[index])]
    if len(kept) != 2:
        if not table.header:
            return []
        given = shorten(",".join(table.header))
        raise InputError(f"{path} has the columns {given}; give one of steps and one of values, `step,value`.")
    kept.sort(key=lambda index: table.header[index].lower() not in STEPS)
    step, value = (table.column(index).tolist() for index in kept)
    return list(zip(step, value, strict=True))


def _beside_a_curve(name: str) -> bool:
    return not name or name.startswith("Unnamed:") or name == TENSORBOARD[0] or name.endswith(("__MIN", "__MAX"))


DEFAULT = {"target": {"type": "hold_then_anneal"}, "guard": {"variety": 0.25}}
"""The control that is recommended where nothing is chosen: this curve, the adaptive law, the balanced bonus, and plain
clipping where prompts turn out to have one right answer."""


def target_in(path: Path, naming: tuple[Path, ...] = ()) -> Any:
    """Target of a file: alone, in a control.yaml or in a run's YAML, or a table of step and value.

    Args:
        naming: the files that led here, resolved.

    Raises:
        InputError: the file cannot be read, a run follows no target, or files name each other in a circle.
    """
    if path.resolve() in naming:
        raise InputError(f"{path} names itself as its target; write the curve there.")
    if path.suffix in SUFFIXES:
        return {"type": "table", "file": str(path)}
    content = read_yaml(path)
    control, home = content.get("control", content), path
    if isinstance(control, str):
        home = beside(control, path.parent)
        control = DEFAULT if control == "default" else read_yaml(home)
    if "control" in content and not (isinstance(control, dict) and control.get("target")):
        raise InputError(f"{path} follows no target; give a run or a control.yaml with `target:`, or a target alone.")
    target = anchored(control if "target" in control else {"target": control}, home.parent)["target"]
    return target_in(Path(target), (*naming, path.resolve())) if isinstance(target, str) else target


def anchored(control: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The content of a control.yaml in `folder`, the file of its target found as `beside` does."""
    target = control.get("target")
    if isinstance(target, str):
        return control | {"target": str(beside(target, folder))}
    if isinstance(target, dict) and isinstance(target.get("file"), str):
        return control | {"target": target | {"file": str(beside(target["file"], folder))}}
    return control


def beside(name: str, folder: Path) -> Path:
    """A file that one in `folder` names: beside it, or else in the working folder."""
    found = folder / name
    return found if found.exists() else Path(name)
