"""`entrostat plan`."""

from argparse import Namespace

from .kinds import Commands, add, whole


def register(commands: Commands) -> None:
    text = "What a run will need: memory by part, tokens a step, where the time goes, what control costs."
    example = "entrostat plan examples/gpu/qwen-math-7b.yaml hardware.ranks=16"
    command = add(commands, "plan", _run, text, example, "train", ["torch"])
    command.add_argument("words", nargs="+", metavar="CONFIG dotted.key=value", help="the run's YAML; laid over it")
    command.add_argument("--prompt", type=whole(1, 10**7), default=256, help="tokens of a prompt (default: 256)")


def _run(options: Namespace) -> None:
    from ..config import load_config

    source, *overrides = options.words
    config = load_config(source, overrides)
    from ..commands.plan import describe

    print(describe(config, options.prompt))
