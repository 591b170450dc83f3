"""Pages of the site that are made from the code: configuration, command line, the list of results."""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import textwrap
import types
import typing
from functools import cache
from itertools import pairwise
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from entrostat.inputs.configuration import inside
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
    return {
        docs / "reference" / "configuration.md": configuration(),
        docs / "reference" / "command-line.md": command_line(),
        docs / RESULTS / "index.md": results(docs / RESULTS),
    }


def configuration() -> str:
    """Every key of a run's YAML, with the models that it is made of."""
    parts = [
        "# Configuration",
        "What `entrostat train CONFIG` reads. Keys that are not listed are refused. Any of them can be laid over the "
        "file on the command line: `entrostat train examples/controlled.yaml update.learning_rate=1e-4 --out runs/x`. "
        "A `control.yaml`, as the library reads it, is what stands under `control`.",
    ]
    return "\n\n".join([*parts, *(_model(model) for model in models(RunConfig))]) + "\n"


def models(root: type[BaseModel]) -> list[type[BaseModel]]:
    """`root` and all models in its fields, each once, in reading order."""
    found: list[type[BaseModel]] = []
    queue = [root]
    while queue:
        model = queue.pop(0)
        if model not in found:
            found.append(model)
            queue[:0] = [inner for info in model.model_fields.values() for inner in inside(info.annotation)]
    return found


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


def _model(model: type[BaseModel]) -> str:
    said = {name: text.replace("|", "\\|") for name, text in meanings(model).items()}
    rows = [
        f"| `{name}` | {_kind(info)} | {_default(info)} | {said.get(name, '')} |"
        for name, info in model.model_fields.items()
    ]
    table = ["| key | type | default | meaning |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {model.__name__}", "", inspect.cleandoc(model.__doc__ or ""), "", *table])


def _kind(info: FieldInfo) -> str:
    inner = inside(info.annotation)
    if inner:
        return " or ".join(f"[{model.__name__}](#{model.__name__.lower()})" for model in inner)
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


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if inside(info.annotation) or info.default_factory:
        return "its defaults" if info.default is not None else "none"
    return "none" if info.default is None else f"`{info.default}`"


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
    text = "Measurements, each with the command that makes it. Seeds and curves of a claim were never used for tuning."
    return "\n".join(["# Results", "", text, "", *links]) + "\n"
