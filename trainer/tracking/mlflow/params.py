"""A configuration as MLflow's parameters, which can be written once and never changed.

A run that goes on with other values keeps those that it began with. What is other from then on stands beside them, as
`resumed/1/control.law.kp`, with a number for every such change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LONGEST = 500
"""Characters of a value."""
LATER = re.compile(r"resumed/(\d+)/(.+)")
GONE = "(not there)"
"""A key that the configuration no longer has, as another law's gains."""


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys as dotted ones, values as text."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": str(value)[:LONGEST]}
    return found


def in_force(params: Mapping[str, str]) -> dict[str, str]:
    """Parameters of a run that are in force: the last value of each."""
    later = [(int(match[1]), match[2], value) for key, value in params.items() if (match := LATER.fullmatch(key))]
    now = {key: value for key, value in params.items() if not LATER.fullmatch(key)}
    for _, key, value in sorted(later):
        now[key] = value
    return {key: value for key, value in now.items() if value != GONE}


def to_write(wanted: Mapping[str, str], params: Mapping[str, str], begun: bool) -> dict[str, str]:
    """The parameters to add to `params`, so that `wanted` is in force.

    Args:
        begun: whether the run's first configuration is there whole.
    """
    first = {} if begun else {key: value for key, value in wanted.items() if key not in params}
    now = in_force({**params, **first})
    numbers = [int(match[1]) for key in params if (match := LATER.fullmatch(key))]
    prefix = f"resumed/{max(numbers, default=0) + 1}/"
    changed = {key: value for key, value in wanted.items() if now.get(key) != value}
    gone = dict.fromkeys(now.keys() - wanted.keys(), GONE)
    return first | {prefix + key: value for key, value in sorted((changed | gone).items())}
