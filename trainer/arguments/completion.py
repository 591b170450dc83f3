"""`entrostat completion`."""

from argparse import Namespace

from .kinds import Commands, add


def register(commands: Commands) -> None:
    text = "Print a script that lets a shell complete this command line."
    example = 'eval "$(entrostat completion bash)"'
    command = add(commands, "completion", _run, text, example, "completion")
    command.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))


def _run(options: Namespace) -> None:
    from ..commands.completion import completion

    print(completion(options.parser, options.shell))
