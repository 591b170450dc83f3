"""The pages of `compare` and of `search`: one HTML file each, which opens without a network."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader

ASSETS = files("entrostat.trainer") / "assets" / "compare"


def as_page(command: str, words: str, picture: Path, **values: Any) -> str:
    """The page of a command, named as its template is.

    Args:
        words: the text above its tables.
        picture: a PNG, which the page holds.
        values: other values that the template reads.
    """
    pages = Environment(autoescape=True, loader=FunctionLoader(lambda name: (ASSETS / name).read_text("utf-8")))
    held = base64.b64encode(picture.read_bytes()).decode()
    return pages.get_template(f"{command}.html").render(command=command, words=words, picture=held, **values)
