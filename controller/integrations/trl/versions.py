"""Which versions of TRL the integration knows."""

from ..hosts import require

SUPPORTED = ">=1.0.0,<1.17,!=1.14.*,!=1.15.*"
"""1.0 to 1.13 score tokens from logits, 1.16 from hidden states; 1.14 and 1.15 from either, by device."""


def check_trl() -> str:
    """The installed version.

    Raises:
        InputError: TRL is not installed, or in a version whose inside is another.
    """
    return require("trl", SUPPORTED)
