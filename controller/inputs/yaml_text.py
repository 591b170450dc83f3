"""YAML text to plain values: the safe loader, no alias that unfolds, no key twice."""

from __future__ import annotations

import math
from typing import Any

import yaml

from .errors import InputError, one_line

MERGE = "tag:yaml.org,2002:merge"


class _Twice(Exception):
    """A key that stands twice in one mapping, and where."""

    def __init__(self, key: str, first: int, second: int) -> None:
        where = f"twice on line {first}" if first == second else f"on line {first} and again on line {second}"
        super().__init__(f"the key `{' '.join(key.split())[:60]}` {where}")


class _Loader(yaml.SafeLoader):
    """Aliases stand for single values only: those of lists and mappings, nested, unfold without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if is_alias and node is not None and not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="an alias of a list or a mapping", problem_mark=node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; PyYAML would let the last of equal keys win, which YAML 1.2 (3.2.1.3) forbids."""
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):  # no other key can be hashed
                value = key.value if key.tag == MERGE else self.construct_object(key)
                line = key.start_mark.line + 1
                if value in lines:
                    raise _Twice(key.value, lines[value], line)
                lines[value] = line
        return node


def load_yaml(text: str, source: str, remedy: str) -> Any:
    """The value that `text` holds.
    Raises InputError: it is not YAML, holds an alias of a list or a mapping, or a mapping has a key twice.

    Args:
        source: what the text is, to begin the message with.
        remedy: what to write where it is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except _Twice as twice:
        raise InputError(f"{source} has {twice}; keep one of the two.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{source} is not valid YAML ({_reason(error)}); {remedy}.") from None


def yaml_line(value: Any) -> str:
    """Plain values as one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def _reason(error: Exception) -> str:
    """Fault that the YAML reader found, and its line, without the quoted text."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem}, line {error.problem_mark.line + 1}"
    return one_line(error)
