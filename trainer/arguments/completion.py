"""`entrostat completion`: a script that lets a shell complete commands, options and files.

Made with shtab, whose scripts are static: argcomplete would start Python, a third of a second, at every stroke of Tab.
"""

from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from .kinds import Commands, add


def register(commands: Commands) -> None:
    text = "Print a script that lets a shell complete this command line."
    example = 'eval "$(entrostat completion bash)"'
    command = add(commands, "completion", _run, text, example, "completion")
    command.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))


def _run(options: Namespace) -> None:
    print(completion(options.parser, options.shell))


def completion(parser: ArgumentParser, shell: str) -> str:
    """The script for `shell`; options that take a path complete files."""
    import shtab

    inner = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    for command in [parser, *(command for action in inner for command in action.choices.values())]:
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE
    return shtab.complete(parser, shell)
