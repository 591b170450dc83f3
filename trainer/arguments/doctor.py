"""`entrostat doctor`."""

from argparse import Namespace

from .kinds import Commands, add


def register(commands: Commands) -> None:
    text = "Say what is installed, which device is used, what is missing and the command that adds it."
    command = add(commands, "doctor", _run, text, "entrostat doctor")
    command.add_argument("--all", action="store_true", help="every extra, with every package that it lacks")


def _run(options: Namespace) -> None:
    from ..commands.doctor import doctor

    print(doctor(options.all))
