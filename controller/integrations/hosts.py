"""Whether the trainer to be controlled is installed, in a version that was tried."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ..inputs.errors import InputError


def require(package: str, supported: str) -> str:
    """The installed version of `package`.

    Args:
        supported: the versions that the integration was tested with, as in `>=1.0,<1.14` (PEP 440).

    Raises:
        InputError: it is not installed, or in another version.
    """
    try:
        found = version(package)
    except PackageNotFoundError:
        raise InputError(f"{package} is not installed; install it with `pip install '{package}{supported}'`.") from None
    from packaging.specifiers import SpecifierSet  # every host brings it

    if not SpecifierSet(supported).contains(found, prereleases=True):
        raise InputError(
            f"{package} {found} is installed and {supported} is supported; install it with "
            f"`pip install '{package}{supported}'`."
        )
    return found
