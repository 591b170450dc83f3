"""The messages of bad input as a set: one form, one sentence, the same words for the same things."""

import ast
import re
from pathlib import Path

import pytest

from tests.runs import ROOT

QUOTED = ("state.py", "belief.py", "checkpoint.py", "evaluate.py", "table_file.py")
"""Files whose ValueErrors are reasons within another message."""
BLOCKS = "task|rollout|update|engine|control|guard|law|actuator|target|checkpoint|tracking|measurement"
KEY = rf"\b(?:{BLOCKS})\.(?!yaml)[a-z]\w+"


def text(node: ast.expr) -> str:
    """A string expression, with `{}` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return "{}"


def sources() -> list[Path]:
    return [file for top in ("controller", "sim", "trainer") for file in sorted((ROOT / top).rglob("*.py"))]


def messages() -> dict[str, str]:
    """Place -> text, of every InputError, and of every ValueError that configuration models raise."""
    found = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args and wanted(path, node.func):
                said = text(node.args[0])
                if len(said) > len("{}: {}"):  # else it was put together elsewhere
                    found[f"{path.relative_to(ROOT)}:{node.lineno}"] = said
    return found


def wanted(path: Path, name: ast.Name) -> bool:
    return name.id == "InputError" or (name.id == "ValueError" and path.name not in QUOTED)


MESSAGES = messages()


@pytest.mark.parametrize(
    ("rule", "wrong"),
    {
        "begins in lower case, since a source may stand before it": r"^(?!MLflow)[A-Z]",
        "names a remedy behind a semicolon": r"^(?!.*; )",
        "ends with a full stop": r"[^.}]$",
        "is one sentence": r"[.?!] [A-Z]",
        "keeps to our words": r"\b(got|please|invalid|illegal|must|bad|There is)\b",
    }.items(),
    ids=str,
)
def test_every_message(rule, wrong):
    assert len(MESSAGES) > 100
    assert not {place: said for place, said in MESSAGES.items() if re.search(wrong, said)}, rule


def test_keys_to_write_stand_in_backticks():
    outside = {place: re.sub(r"`[^`]*`", "", said) for place, said in MESSAGES.items()}
    assert not {place: said for place, said in outside.items() if re.search(KEY, said)}


def docstrings() -> dict[str, str]:
    """Place -> text, of every docstring, and of every string that describes the line above it."""
    found = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                found[f"{path.relative_to(ROOT)}:{node.lineno}"] = node.value.value.strip()
    return found


def test_every_docstring_leads_with_a_noun_or_a_verb():
    found = docstrings()
    assert len(found) > 1000
    assert not {place: said for place, said in found.items() if re.match(r"(Where|What|Of|By which|In which)\b", said)}
