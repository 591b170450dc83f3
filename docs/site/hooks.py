"""Pages of the site that are made from the code: configuration, command line, the list of results."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import textwrap
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from entrostat.inputs.configuration import inside
from entrostat.targets import Curve
from entrostat.trainer.cli import parser
from entrostat.trainer.config import RunConfig

if typing.TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

RESULTS = "results"


def on_pre_build(config: MkDocsConfig) -> None:
    """Write the generated pages, which are committed: a reader of the repository finds them too."""
    for path, text in pages(Path(config.docs_dir).resolve()).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages(docs: Path) -> dict[Path, str]:
    """The generated pages of the folder `docs`, and what they say."""
    reference = docs / "reference"
    return {
        **{reference / path: text for path, text in configuration().items()},
        reference / "command-line.md": command_line(),
        docs / RESULTS / "index.md": results(docs / RESULTS),
    }


SECTIONS = {
    "task-and-model": ("Task and model", ["task", "adapter"]),
    "rollout": ("Rollout", ["rollout"]),
    "update": ("Update and machine", ["update", "engine", "hardware"]),
    "targets": ("Targets", ["control.target"]),
    "laws": ("Laws", ["control.law"]),
    "actuators": ("Actuators", ["control.actuator"]),
    "control": ("Control", ["control"]),
    "record": ("Evaluation, checkpoints, trackers", ["evaluation", "checkpoint", "tracking"]),
}
"""Pages of the configuration: title, and the keys whose content they have, less what an earlier page has."""


@dataclass(frozen=True)
class Place:
    """Page and heading of a model; pages by their paths within `reference`."""

    page: str
    heading: str

    def link(self, page: str) -> str:
        """A link to it from `page`."""
        path = "" if self.page == page else os.path.relpath(self.page, Path(page).parent)
        return f"[{self.heading}]({path}#{self.heading})"


Places = Mapping[type[BaseModel], Place]


def configuration() -> dict[str, str]:
    """Every key of a run's YAML, a page a concept: path within `reference` -> text."""
    index, places = "configuration.md", settled()
    listed = [
        f"- [{title}](configuration/{name}.md): {', '.join(f'`{key}`' for key in keys)}"
        for name, (title, keys) in SECTIONS.items()
    ]
    parts = [
        "# Configuration",
        "What `entrostat train CONFIG` reads. Keys that are not listed are refused. Any of them can be laid over the "
        "file on the command line: `entrostat train examples/controlled.yaml update.learning_rate=1e-4 --out runs/x`. "
        "A `control.yaml`, as the library reads it, is what stands under `control`.",
        _table(RunConfig, index, places),
        "A page each:",
        "\n".join(listed),
    ]
    texts = {index: "\n\n".join(parts)}
    for name, (title, keys) in SECTIONS.items():
        page = f"configuration/{name}.md"
        where = ", ".join(f"`{key}`" for key in keys)
        models = [_model(model, page, places) for model, place in places.items() if place.page == page]
        texts[page] = "\n\n".join([f"# {title}", f"{where} in [a run's YAML](../configuration.md).", *models])
    return {page: f"{text}\n" for page, text in texts.items()}


def settled() -> Places:
    """The place of every model within a run's, in reading order."""
    places: dict[type[BaseModel], Place] = {}
    for name, (_, keys) in SECTIONS.items():
        for key in keys:
            _settle(places, f"configuration/{name}.md", key.rpartition(".")[2], _annotation(key))
    return places


def _annotation(key: str) -> object:
    model, (*outer, last) = RunConfig, key.split(".")
    for name in outer:
        [model] = inside(model.model_fields[name].annotation)
    return model.model_fields[last].annotation


def _settle(places: dict[type[BaseModel], Place], page: str, key: str, annotation: object) -> None:
    """Give the models of a key, and those within them, a place on `page` unless they have one."""
    found = inside(annotation)
    for model in found:
        if model not in places:
            places[model] = Place(page, _heading(model, key if len(found) == 1 else next(iter(model.model_fields))))
            for name, info in model.model_fields.items():
                _settle(places, page, name, info.annotation)


def _heading(model: type[BaseModel], key: str) -> str:
    """A model's `type` as YAML has it; for one without, the key that it stands under."""
    kind = model.model_fields.get("type")
    return str(typing.get_args(kind.annotation)[0]) if kind else key


@cache
def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> the string below it in the source of `model`, or of the models that it is made from, on one line.

    Read here, and not by pydantic at every start of a command: that takes a tenth of a second.
    """
    found: dict[str, str] = {}
    for source in reversed([base for base in model.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]):
        [body] = ast.parse(textwrap.dedent(inspect.getsource(source))).body
        assert isinstance(body, ast.ClassDef)
        for key, below in pairwise([*body.body, ast.Pass()]):
            if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name):
                said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                found[key.target.id] = " ".join(str(below.value.value).split()) if said else ""
    return found


def _model(model: type[BaseModel], page: str, places: Places) -> str:
    said = inspect.cleandoc(model.__doc__ or "")
    return f"## {places[model].heading}\n\n{said}\n\n{_table(model, page, places)}".rstrip()


def _table(model: type[BaseModel], page: str, places: Places) -> str:
    """Keys of a model, with links to what stands below them."""
    said = {name: text.replace("|", "\\|") for name, text in meanings(model).items()}
    rows = [
        f"| `{name}` | {_kind(info, page, places)} | {_default(info, places, model)} | {said.get(name, '')} |"
        for name, info in model.model_fields.items()
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows] if rows else [])


def _kind(info: FieldInfo, page: str, places: Places) -> str:
    if inner := inside(info.annotation):
        return " or ".join(places[model].link(page) for model in inner)
    bounds = [
        f"{sign} {getattr(part, key):g}" for part in info.metadata for key, sign in SIGNS.items() if hasattr(part, key)
    ]
    return ", ".join([_name(info.annotation), *bounds]).replace("|", "or")


SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _name(annotation: object) -> str:
    """A type in words that a writer of YAML knows."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(part) for part in parts)
    if origin is typing.Annotated:
        return _name(parts[0])
    if origin in (list, tuple):
        return f"list of {_name(parts[0])}" if parts else "list"
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", type(None): "none"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(info: FieldInfo, places: Places, model: type[BaseModel]) -> str:
    """The default as YAML has it; for a part with several types, its type."""
    factory, models = info.default_factory, inside(info.annotation)
    if info.is_required():
        return "the whole run" if issubclass(model, Curve) and info is model.model_fields.get("steps") else "required"
    if factory in (*models, list, dict) or factory is None:
        value = factory() if factory else info.default
        if not isinstance(value, BaseModel):
            plain = isinstance(value, str) and value.isprintable() and value
            return "none" if value is None else f"`{value if plain else json.dumps(value)}`"
        if len(models) > 1:
            return f"`{places[type(value)].heading}`"
    return "its defaults"


def command_line() -> str:
    """The help of every command."""
    os.environ["COLUMNS"] = "100"  # help is as wide as the terminal, and the page is not
    top = parser()
    commands = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction)).choices
    parts = [f"# Command line\n\n{top.description}"]
    for name, command in commands.items():
        parts.append(f"## entrostat {name}\n\n```text\n{command.format_help().strip()}\n```")
    return "\n\n".join(parts) + "\n"


def results(folder: Path) -> str:
    """A list of the pages of measurements, and of others that stand in no menu, by their titles."""
    known = yaml.safe_load(Path(__file__).with_name("mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [
        page
        for page in sorted(folder.parent.rglob("*.md"))
        if page.relative_to(folder.parent).as_posix() not in str(known)
    ]
    titles = {page: page.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for page in pages}
    links = [f"- [{title}]({os.path.relpath(page, folder)})" for page, title in titles.items()]
    played = "Where a seed or curve of a claim played a part in a choice, its page says so."
    text = f"Measurements, each with the command that makes it. {played}"
    return "\n".join(["# Results", "", text, "", *links]) + "\n"
