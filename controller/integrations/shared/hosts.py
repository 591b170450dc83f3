"""Whether the trainer to be controlled is installed, in a version that was tried."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from ...inputs.errors import InputError

logger = logging.getLogger("entrostat")


def require(
    package: str, supported: str, tested: str | None = None, changed: Callable[[], str | None] = lambda: None
) -> str:
    """The installed version of `package`.
    Raises InputError: it is not installed, in another version, or in a later one that has changed.

    Args:
        supported: the versions that may be tried, as in `>=1.0,!=1.14.*` (PEP 440).
        tested: the newest minor version that was tested, as in `1.16`; none: all that are supported were.
        changed: for a version above `tested`: what it has otherwise than is needed, in words; none: nothing.
    """
    try:
        found = version(package)
    except PackageNotFoundError:
        raise InputError(f"{package} is not installed; install it with `pip install '{package}{supported}'`.") from None
    from packaging.specifiers import SpecifierSet  # every host brings it
    from packaging.version import Version

    if not SpecifierSet(supported).contains(found, prereleases=True):
        raise InputError(
            f"{package} {found} is installed and {supported} is supported; install it with "
            f"`pip install '{package}{supported}'`."
        )
    if tested is not None and Version(found).release[:2] > Version(tested).release[:2]:
        if reason := changed():
            raise InputError(
                f"{package} {found} is later than the {tested} that was tested, and {reason}; install it with "
                f"`pip install '{package}=={tested}.*'`."
            )
        logger.warning(
            "%s %s is later than the %s that was tested; what is needed of it is as it was.", package, found, tested
        )
    return found
