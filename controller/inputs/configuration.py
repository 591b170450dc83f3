"""Typed configuration: YAML in, frozen models out, one sentence for whatever does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import InputError, shorten
from .files import read_bytes
from .yaml_text import load_yaml

Share = Annotated[float, Field(gt=0, le=1)]


class _UnknownKey(ValueError):
    """A key that its block does not have."""

    def __init__(self, key: str, block: type[BaseModel]) -> None:
        self.key, self.known = key, list(block.model_fields)
        super().__init__(f"unknown key `{key}`; {_suggestion(key, self.known)}")
        kind = block.model_fields.get("type")
        self.kind = next(iter(get_args(kind.annotation)), None) if kind else None


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_misfits(cls, content: Any) -> Any:
        if isinstance(content, Mapping):
            for key, value in content.items():
                if key not in cls.model_fields:
                    raise _UnknownKey(str(key), cls)
                annotation = cls.model_fields[key].annotation
                if _holds_truth(value) and bool not in (annotation, *get_args(annotation)):
                    raise ValueError(
                        f"`{key}` is {shorten(value)} (YAML's yes, no, on, off); write a number or quoted text."
                    )
        return content


def _holds_truth(value: Any, depth: int = 2) -> bool:
    """Whether it is a truth value, or a list (of lists) with one in it: pydantic would take it for 0 or 1."""
    if isinstance(value, list | tuple):
        return depth > 0 and any(_holds_truth(item, depth - 1) for item in value)
    return isinstance(value, bool)


NO_MAPPING = ("model_attributes_type", "model_type", "dict_type")
"""pydantic's errors of a value in the place of a block; the first is that of a block with a `type`."""


def set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    """Set `value` at the dotted `key` of nested mappings, which are made on the way.
    Raises InputError: a part of the key but the last holds something else than a mapping.
    """
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise InputError(f"`{parent}` holds no keys in this configuration; override it whole.")
    content[last] = value


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, read with the safe loader.
    Raises InputError: no such file, not a regular one, too large, not YAML, a key twice, or not a mapping.
    """
    encoded = read_bytes(path, "a YAML file")
    try:
        text = encoded.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid YAML ({error}); write `key: value` lines.") from None
    content = load_yaml(text, str(path), "write `key: value` lines")
    if content is None:
        raise InputError(f"{path} is empty; write `key: value` lines.")
    if not isinstance(content, dict):
        found = type(content).__name__
        raise InputError(f"{path} holds a {found}, not a mapping; write `key: value` lines.")
    return content


def parse(model: type[ConfigT], content: Mapping[str, Any], source: str = "configuration", **options: Any) -> ConfigT:
    """Check `content` against `model`. Raises InputError: the first thing that does not fit, in one sentence.

    Args:
        options: pydantic's own, of `model_validate`.
    """
    try:
        return model.__pydantic_validator__.validate_python(content, **options)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise InputError(f"{source}: {_sentence(error, content, model)}") from None


def _sentence(error: ValidationError, content: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One sentence for the first error: what was wrong, what was given, what to write instead."""
    first = error.errors()[0]
    key = ".".join(_path(first["loc"], content, keep_last=first["type"] == "missing"))
    if not key and first["type"] != "value_error":
        return f"{shorten(content)} is not a mapping; write `key: value` pairs."
    if first["type"] == "value_error":
        wrong = first["ctx"]["error"]
        if isinstance(wrong, _UnknownKey) and (place := place_of(wrong.key, model)):
            given = f"{key}.{wrong.key}" if key else wrong.key
            if place != given:
                return f"unknown key `{given}`; did you mean `{place}`?"
            if wrong.kind:  # another type of the same block has it
                return f"`{key}` of type {wrong.kind} has no key `{wrong.key}`; write one of: {', '.join(wrong.known)}."
        reason = str(wrong)
        return f"`{key}`: {reason}" if key else reason
    if first["type"] == "missing":
        return f"`{key}` is missing; add it."
    if first["type"] == "union_tag_not_found":
        return f"`{key}.type` is missing; say which kind of {key.split('.')[-1]} is meant."
    if first["type"] == "union_tag_invalid":
        kinds, given = first["ctx"]["expected_tags"], first["ctx"]["tag"]
        return f"`{key}.type` is {given!r}; write one of: {kinds.replace(chr(39), '')}."
    if first["type"] in NO_MAPPING:
        given, last = first["input"], key.split(".")[-1]
        named = isinstance(given, str) and first["type"] == NO_MAPPING[0]
        remedy = f"`{last}: {{type: {shorten(given)[1:-1]}}}`" if named else "`key: value` pairs, or leave it out"
        return f"`{key}` is {shorten(given)}, not a mapping; write {remedy}."
    return f"`{key}` is {shorten(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."


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


def place_of(key: str, model: type[BaseModel], above: str = "") -> str | None:
    """The dotted key of the first field called `key` in a model or in those inside it; none: there is none."""
    if key in model.model_fields:
        return above + key
    inner = [(name, part) for name, info in model.model_fields.items() for part in inside(info.annotation)]
    found = (place_of(key, part, f"{above}{name}.") for name, part in inner)
    return next((place for place in found if place), None)


def inside(annotation: object) -> list[type[BaseModel]]:
    """The models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in inside(part)]


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"write one of: {', '.join(known)}."
