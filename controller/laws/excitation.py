"""Excitation: a command that moves by plan, so that a plant can be identified from the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..limits import UNIT, Limits
from .plan import Plan

PERIOD = 63  # of a maximal-length register of six bits


class Excitation(Plan):
    """An open-loop command about `offset`; each of its values lasts `hold` steps, and the target is not followed.

        prbs:       offset +- amplitude by a maximal-length register, x^6 + x^5 + 1, which starts where `seed` says
        staircase:  `levels` values from offset - amplitude to offset + amplitude, from the middle up, down and back,
                    each a share of the batch's end on its side: 1 is the high end and -1 the low one

    A PRBS averages to the offset over its 63 values, so that entropy, which integrates the command, comes back. The
    sequence is that of Ljung, System Identification (1999), section 13.3.
    """

    type: Literal["excitation"] = "excitation"
    shape: Literal["prbs", "staircase"] = "prbs"
    """Two values in a random-looking order, or a staircase of several, which shows both ends too."""
    amplitude: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Largest distance from the offset; 1 with `staircase` goes from end to end."""
    offset: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """The command's mean; one that about holds the entropy keeps the run where it is to be controlled."""
    hold: Annotated[int, Field(ge=1, le=1_000_000)] = 6
    """Steps that a value lasts; a few times the delay."""
    levels: Annotated[int, Field(ge=3, le=1001)] = 5
    """Staircase only: how many values, odd."""
    seed: Annotated[int, Field(ge=0, le=2**63)] = 0
    """PRBS only: where the sequence starts."""

    @model_validator(mode="after")
    def _fits(self) -> Excitation:
        if abs(self.offset) + self.amplitude > 1:
            raise ValueError(
                f"offset {self.offset} and amplitude {self.amplitude} leave [-1, 1]; write an amplitude of at most "
                f"{1 - abs(self.offset):.3g}."
            )
        if self.levels % 2 == 0:
            raise ValueError(f"levels is {self.levels}; write an odd number, so that one of them is the offset.")
        return self

    def at(self, step: int, reach: Limits = UNIT) -> float:
        """The planned command at a step of the plan, for a batch of this reach."""
        place = step // self.hold
        if self.shape == "prbs":
            return self.offset + self.amplitude * self._prbs(place)
        share = self.offset + self.amplitude * self._staircase(place)
        return share * (reach.high if share > 0 else -reach.low)

    def _prbs(self, place: int) -> float:
        register = self.seed % PERIOD + 1
        for _ in range(place % PERIOD):
            register = (register << 1) & PERIOD | ((register >> 5 ^ register >> 4) & 1)
        return 1.0 if register & 1 else -1.0

    def _staircase(self, place: int) -> float:
        """0 up to 1, down to -1 and back to 0, in steps of 2 / (levels - 1)."""
        half = (self.levels - 1) // 2
        place %= 4 * half
        return (half - abs((place + half) % (4 * half) - 2 * half)) / half
