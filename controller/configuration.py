"""Typed configuration: YAML in, frozen models out, one sentence for whatever does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .errors import InputError

MAX_FILE_BYTES = 1 << 20  # configurations come from strangers; no honest one is near this


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, content: Any) -> Any:
        if isinstance(content, Mapping):
            for key in content:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key `{key}`; {_suggestion(str(key), list(cls.model_fields))}.")
        return content


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, read with the safe loader.

    Raises:
        InputError: no such file, too large, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} is larger than {MAX_FILE_BYTES} bytes; a configuration is a short file.")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}; give the path of a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not valid YAML ({reason}); write `key: value` lines.") from None
    if not isinstance(content, dict):
        found = type(content).__name__
        raise InputError(f"{path} holds a {found}, not a mapping; write `key: value` lines.")
    return content


def parse(model: type[ConfigT], content: Mapping[str, Any], source: str = "configuration") -> ConfigT:
    """Check `content` against `model`.

    Raises:
        InputError: the first thing that does not fit, in one sentence.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {_sentence(error, content)}") from None


def _sentence(error: ValidationError, content: Mapping[str, Any]) -> str:
    """One sentence for the first error: what was wrong, what was given, what to write instead."""
    first = error.errors()[0]
    key = ".".join(_path(first["loc"], content, keep_last=first["type"] == "missing"))
    if first["type"] == "value_error":
        reason = str(first["ctx"]["error"])
        return f"`{key}`: {reason}" if key else reason
    if first["type"] == "missing":
        return f"`{key}` is missing; add it."
    if first["type"] == "union_tag_not_found":
        return f"`{key}.type` is missing; say which kind of {key.split('.')[-1]} is meant."
    if first["type"] == "union_tag_invalid":
        kinds, given = first["ctx"]["expected_tags"], first["ctx"]["tag"]
        return f"`{key}.type` is {given!r}; write one of: {kinds.replace(chr(39), '')}."
    return f"`{key}` is {_short(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _path(loc: tuple[int | str, ...], content: Any, keep_last: bool) -> list[str]:
    """`loc` without the union tags that pydantic weaves in: only what a reader finds in the file."""
    path: list[str] = []
    for position, part in enumerate(loc):
        if isinstance(content, Mapping) and part in content:
            content = content[part]
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
        elif not (keep_last and position == len(loc) - 1):
            continue
        path.append(str(part))
    return path


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"write one of: {', '.join(known)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
