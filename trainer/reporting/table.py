"""A run's figures in words: the closing table in a terminal, its cells, and warnings."""

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from entrostat.trainer.reporting.rundata import Run
from entrostat.trainer.reporting.story import story
from entrostat.trainer.reporting.summary import BAND, SKIP, RunSummary, summarise

WIDTH = 110
NARROWEST = 8
"""Characters of a run's name, or of its column."""
ABSENT = "-"
NEAR = f"{100 * BAND:.0f} %"


@dataclass(frozen=True)
class Column:
    """One column of the table: a field of `RunSummary`, its head, how a value is written, what it means."""

    field: str
    head: str
    form: str
    meaning: str

    def cell(self, summary: RunSummary) -> str:
        """The value as text; `-` where the run does not give one."""
        value = getattr(summary, self.field)
        return ABSENT if value is None else format(value, self.form)

    def over(self, summaries: Sequence[RunSummary]) -> tuple[str, str]:
        """The mean over runs and its sample standard deviation as text; empty where there is one run alone."""
        values = self._known(summaries)
        if len(values) < 2:
            return (self.cell(summaries[0]) if len(summaries) == 1 else self._text(values)), ""
        return self._text(values), f"± {np.std(values, ddof=1):{self._plain}}"

    def apart(self, summaries: Sequence[RunSummary], base: Sequence[RunSummary]) -> str:
        """The mean over `summaries` minus that over `base`, with its sign."""
        here, there = self._known(summaries), self._known(base)
        return f"{np.mean(here) - np.mean(there):+{self._plain}}" if here and there else ABSENT

    @property
    def _plain(self) -> str:
        return self.form.removeprefix("+").replace("d", ".0f")

    def _known(self, summaries: Sequence[RunSummary]) -> list[float]:
        values = [getattr(summary, self.field) for summary in summaries]
        return [value for value in values if value is not None]

    def _text(self, values: Sequence[float]) -> str:
        return format(float(np.mean(values)), self.form.replace("d", ".0f")) if values else ABSENT


COLUMNS = (
    Column("steps", "steps", "d", "Steps logged."),
    Column("rmse", "RMSE %", ".1f", f"Root mean square error as % of the target's mean, from step {SKIP} on."),
    Column("net_rmse", "net %", ".1f", "RMSE without the sampling error of the measured entropy."),
    Column("bias", "bias %", "+.1f", f"Mean error as % of the target's mean, from step {SKIP} on; +: above it."),
    Column(
        "settling",
        "settled",
        "d",
        f"First step from which entropy stays within {NEAR} of the target, plus 2 standard errors.",
    ),
    Column("overshoot", "over %", ".1f", "Largest excursion past the target, % of the target's mean."),
    Column("saturated", "sat. %", ".0f", "Steps at which the command asked for was beyond its limit, %."),
    Column("entropy_kept", "H end %", ".0f", "Entropy of the last 10 steps as % of the first 3."),
    Column("reward", "reward", ".3f", "Mean reward of the last 10 steps."),
    Column("pass_at_1", "pass_at_1", ".3f", "Last evaluation: share of single answers that are right."),
    Column("pass_at_8", "pass_at_8", ".3f", "Last evaluation: share of prompts with a right answer in 8."),
    Column("distinct", "distinct", ".1f", "Last evaluation: distinct correct answers of a prompt."),
)


def closing_table(runs: Sequence[Run], width: int | None = None) -> str:
    """Figures of `runs`, what the heads mean, and warnings.

    Args:
        width: characters; none: the terminal's, or 110. Where a line a run does not fit, a run is a column.
    """
    width = width or _columns()
    summaries = [summarise(run) for run in runs]
    names = ["run", *(summary.name for summary in summaries)]
    rows = [[column.head for column in COLUMNS]] + [[c.cell(s) for c in COLUMNS] for s in summaries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = width - sum(widths) - len(widths)
    fits = room >= min(max(map(len, names)), 2 * NARROWEST)
    lines = _wide(names, rows, widths, room) if fits else _tall(names, rows, width)
    notes = [
        f"{_shortened(s.name, width // 2)}: {text}."
        for s, run in zip(summaries, runs, strict=True)
        for text in [story(run), *warnings(s)]
    ]
    return "\n".join([*lines, *(line for text in [LEGEND, *notes] for line in _wrapped(text, width))])


LEGEND = (
    f"RMSE, net (RMSE without sampling error) and bias: % of the target's mean from step {SKIP} on. settled: "
    f"first step from which entropy stays within {NEAR} of the target + 2 standard errors. H end: entropy at the "
    "end, % of its start. All others: docs/how-to/read-the-report.md"
)


def below_labels(text: str, width: int | None = None) -> str:
    """Lines of a label and words, broken between words where the terminal ends; the words go on below themselves."""
    lines = [
        [line] if line.startswith(WHOLE) else _wrapped(line, width or _columns(), LABEL) for line in text.splitlines()
    ]
    return "\n".join(part for parts in lines for part in parts)


LABEL = 12
"""Characters of a label."""
WHOLE = ("wrote ", "next ")
"""Labels of lines that are not broken: paths and commands are copied."""


def _columns() -> int:
    return shutil.get_terminal_size((WIDTH, 24)).columns


def _wide(names: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], room: int) -> list[str]:
    short = [_shortened(name, room) for name in names]
    longest = max(map(len, short))
    return [" ".join([n.ljust(longest), *map(str.rjust, row, widths)]) for n, row in zip(short, rows, strict=True)]


def _tall(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A column a run, below each other where they do not fit side by side."""
    heads = ["run", *rows[0]]
    left = max(map(len, heads))
    each = min(max(map(len, names)), max(NARROWEST, width - left - 1))
    fits = max((width - left) // (each + 1), 1)
    lines = []
    for start in range(1, len(names), fits):
        chosen = range(start, min(start + fits, len(names)))
        columns = [[_shortened(names[k], each), *rows[k]] for k in chosen]
        for place, head in enumerate(heads):
            lines.append(" ".join([head.ljust(left), *(column[place].rjust(each) for column in columns)]))
    return lines


def _shortened(name: str, room: int) -> str:
    # The end of a name tells runs of one sweep apart, so the middle goes.
    head = room // 3
    return name if len(name) <= room else f"{name[:head]}..{name[len(name) - (room - head - 2) :]}"


def _wrapped(text: str, width: int, indent: int = 2) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent * " ", break_long_words=False, break_on_hyphens=False)


def headline(summary: RunSummary) -> str:
    """One sentence on a run's entropy."""
    end = ending([summary])
    if summary.entropy_end is None:
        return end
    if summary.released is not None:
        return f"gave way to plain clipping in step {summary.released}: its prompts have one right answer; {end}"
    if summary.rmse is None:
        asked = "too short to judge the tracking" if _controlled(summary) else "no target"
        return f"{asked}; {end}"
    net = "" if summary.net_rmse is None else f" ({summary.net_rmse:.1f} % without sampling error)"
    return f"followed its target with an error of {summary.rmse:.1f} %{net}; {end}"


def ending(summaries: Sequence[RunSummary]) -> str:
    """The entropy at the end of one run or several: % of its start, or nats where it has no such share."""
    for field, form, unit in (("entropy_kept", ".0f", "% of its start"), ("entropy_end", ".3g", "nats")):
        values = sorted(value for summary in summaries if (value := getattr(summary, field)) is not None)
        if values:
            least_and_most = dict.fromkeys(format(value, form) for value in (values[0], values[-1]))
            return f"entropy ended at {' to '.join(least_and_most)} {unit}"
    return "no entropy was logged"


def _controlled(summary: RunSummary) -> bool:
    """Whether there was a target: past it lies an excursion, if only one of 0."""
    return summary.overshoot is not None


def warnings(summary: RunSummary) -> list[str]:
    """Warnings to the reader, most serious first."""
    return [text for applies, text in _checks(summary) if applies]


def _checks(s: RunSummary) -> list[tuple[bool, str]]:
    kept = 100.0 if s.entropy_kept is None or s.released is not None else s.entropy_kept
    ratio = s.entropy_over_target
    # A target may itself ask for little or much entropy: only a run that is off its target is to blame.
    return [
        (kept < 20 and (ratio is None or ratio < 80), f"entropy collapsed to {kept:.0f} % of its start"),
        (kept > 200 and (ratio is None or ratio > 125), f"entropy rose to {kept:.0f} % of its start"),
        (s.oscillation_grows, "the error swings more and more: the loop's gain is too high"),
        (
            s.within is not None and s.within < 90,
            f"entropy was within {NEAR} of its target (+ 2 standard errors) at only "
            f"{int(s.within or 0)} % of the steps from {SKIP} on",
        ),
        ((s.saturated or 0) >= 10, f"command saturated {s.saturated or 0:.0f} % of steps"),
        (
            _controlled(s) and (s.uncut or 0) >= 50,
            f"no token was cut at {s.uncut or 0:.0f} % of steps: thresholds that cut nothing steer nothing; "
            "use more updates a rollout, or an actuator whose thresholds may go negative",
        ),
        (s.held > 0, f"{s.held} measurement{'s were' if s.held > 1 else ' was'} not finite; the last command was held"),
        (
            s.skipped > 0,
            f"updates were left out at {s.skipped} steps: a loss or a gradient was not finite, or no answer of theirs "
            "was left to learn from",
        ),
        (
            bool(s.faults),
            "survived: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(s.faults.items())),
        ),
    ]
