"""`entrostat completion`: a script that lets a shell complete commands, options and files.

Made with shtab, whose scripts are static: argcomplete would start Python, a third of a second, at every stroke of Tab.
"""

import argparse
from pathlib import Path


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for `shell`; options that take a path complete files."""
    import shtab

    for command in _parsers(parser):
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [parser, *(sub for action in inner for sub in action.choices.values())]
