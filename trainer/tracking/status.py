"""Display in the terminal while a run goes on: one block that renews itself, or a plain line a step."""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from entrostat.limits import UNIT, Limits

SPARKS = "▁▂▃▄▅▆▇█"
SEEN = 40
"""Steps of the spark line and of the rate behind the remaining time."""
BAR = 21
COMMAND = ("command", "command_low", "command_high")
Metrics = Mapping[str, float]


class Status:
    """Shows the steps of a run: `show` after each, `close` at the end."""

    def __init__(
        self, steps: int, start: int = 0, console: Console | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`start`: the first step that this process does, of `steps`; `now`: seconds, for the remaining time."""
        self._console = console or Console(highlight=False)
        self._steps, self._last = steps, start - 1
        self._metrics: Metrics = {}
        self._evaluation: Metrics = {}
        self._entropies: deque[float] = deque(maxlen=SEEN)
        self._now, self._times = now, deque([now()], maxlen=SEEN)
        block = self._console.is_terminal and "utf" in self._console.encoding.lower()
        self._live = Live(console=self._console, get_renderable=self.block, auto_refresh=False) if block else None

    def show(self, step: int, metrics: Metrics) -> None:
        """The step that has just been done."""
        self._last, self._metrics = step, metrics
        self._entropies.append(metrics.get("actor/entropy", math.nan))
        self._times.append(self._now())
        self._evaluation = metrics if "eval/pass_at_8" in metrics else self._evaluation
        if not self._live:
            self._console.print(step_line(step, metrics), markup=False, soft_wrap=True)
            return
        self._live.start()
        self._live.refresh()

    def close(self) -> None:
        """Leave the block as it is; what is printed from now on stands below it."""
        if self._live:
            self._live.stop()

    @property
    def remaining(self) -> float:
        """Seconds to the last step at the pace of the last ones."""
        pace = (self._times[-1] - self._times[0]) / max(len(self._times) - 1, 1)
        return pace * (self._steps - 1 - self._last)

    def block(self) -> Group | Text:
        """Text of the last step."""
        if not self._metrics:
            return Text("")
        m, width = _with_gaps(self._metrics), self._console.width
        aim = "" if math.isnan(m["controller/setpoint"]) else f"  target {m['controller/setpoint']:.3f}"
        entropy = f"entropy     {m['actor/entropy']:.3f}{aim}  "
        command, low, high = (m[f"controller/{key}"] for key in COMMAND)
        limit = "  limit" if m["controller/saturated"] else ""
        moved = f"thresholds  eps_low {m['threshold/low_mean']:.2f}  eps_high {m['threshold/high_mean']:.2f}"
        if "controller/bonus" in self._metrics:
            moved = f"bonus       {m['controller/bonus']:+.3f}"
        lines = [
            entropy + sparks(list(self._entropies)[-max(width - len(entropy), 1) :]),
            f"command    {command:+.2f}  {bar(command, low, high)} {low:.2g} to {high:.2g}{limit}",
            f"{moved}  cut {m['clip_ratio/region_mean']:.1%}",
            f"reward      {m['reward/mean']:.3f}  {_evaluated(self._evaluation)}",
        ]
        done = f"step {self._last}, {self._last + 1} of {self._steps} done, {clock(self.remaining)} left  "
        head = Table.grid()
        head.add_row(done, ProgressBar(self._steps, self._last + 1, width=max(min(width - len(done), 50), 1)))
        return Group(head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def sparks(values: list[float]) -> str:
    """A value a character, from the lowest to the highest of them; a space where one is not finite."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((v - low) * scale)] if math.isfinite(v) else " " for v in values)


def bar(command: float, low: float, high: float) -> str:
    """The command between its ends as a bar from 0, or from the end nearest to it, which is marked.

    Left of 0 entropy falls, right of it it rises.
    """
    ends = Limits(low, high)
    ends, command = (UNIT, 0.0) if ends.idle or not math.isfinite(command) else (ends, ends.nearest(command))
    zero, place = (round((BAR - 1) * (v - ends.low) / (ends.high - ends.low)) for v in (ends.nearest(0.0), command))
    cells = ["█" if min(zero, place) <= cell <= max(zero, place) else "·" for cell in range(BAR)]
    cells[zero] = "|"
    return "".join(cells)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def step_line(step: int, metrics: Metrics) -> str:
    """One readable line a step."""
    metrics = _with_gaps(metrics)
    parts = [f"step {step:4d}"]
    if math.isfinite(metrics["controller/setpoint"]):
        parts += [f"target {metrics['controller/setpoint']:.3f}"]
    parts += [f"entropy {metrics['actor/entropy']:.3f}"]
    if math.isfinite(metrics["controller/error"]):
        parts += [f"error {metrics['controller/error']:+.3f}"]
    eps = f"eps {metrics['threshold/low_mean']:.2f}/{metrics['threshold/high_mean']:.2f}"
    parts += [
        f"command {metrics['controller/command']:+.2f}{' (saturated)' if metrics['controller/saturated'] else ''}",
        f"bonus {metrics['controller/bonus']:+.3f}" if "controller/bonus" in metrics else eps,
        f"cut {metrics['clip_ratio/region_mean']:.1%}",
        f"reward {metrics['reward/mean']:.3f}",
    ]
    return "  ".join([*parts, _evaluated(metrics)]).rstrip()


def _with_gaps(metrics: Metrics) -> Metrics:
    return defaultdict(lambda: math.nan, metrics)


def _evaluated(metrics: Metrics) -> str:
    if "eval/pass_at_8" not in metrics:
        return ""
    return f"pass_at_1 {metrics['eval/pass_at_1']:.3f} pass_at_8 {metrics['eval/pass_at_8']:.3f}"
