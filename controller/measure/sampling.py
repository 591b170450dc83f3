"""How much of a rollout batch is measured: all of it, or a random share of its responses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..inputs.configuration import Config, Share
from ..inputs.errors import InputError


class Measurement(Config):
    """Choice of the responses that are measured before the update."""

    share: Share = 1.0
    """Share of the responses. Below 1 the logged standard error is that of the smaller sample, and the thresholds read
    entropy and sensitivity from the update's own forward pass."""
    seed: int = Field(default=0, ge=0, le=2**63)
    """Seed of the choice."""

    @property
    def sampled(self) -> bool:
        """Whether some responses are left out."""
        return self.share < 1

    def rows(self, responses: int, step: int) -> NDArray[np.intp]:
        """The numbers of the measured ones of `responses` in a row, rising.

        Systematic sampling (Cochran, Sampling Techniques, 1977, chapter 8): with u uniform in [0, 1), drawn once a
        step, response j is measured where floor(share (j + 1) + u) > floor(share j + u). Each has the chance `share`,
        whatever the others, so that sums are unbiased; they are spread evenly over prompts whose responses follow each
        other. u comes from (seed, step) alone: every rank and every resumed run makes the same choice.
        Raises InputError: fewer than two would be measured.
        """
        if not self.sampled:
            return np.arange(responses)
        if self.share * responses < 2:
            raise InputError(
                f"`measurement.share` is {self.share:g}, less than two of the {responses} responses of a rank; "
                f"write at least {min(2 / max(responses, 1), 1):.3g}."
            )
        start = np.random.default_rng([self.seed, step]).random()
        return np.flatnonzero(np.diff(np.floor(self.share * np.arange(responses + 1) + start)))
