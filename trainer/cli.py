"""The command line: `entrostat COMMAND`, put together from the files of `arguments`."""

from __future__ import annotations

import argparse
import difflib
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from entrostat.inputs.errors import InputError, install

from .arguments import compare, completion, doctor, plan, regions, report, search, train, watch
from .arguments.kinds import Parser
from .arguments.needs import check_modules
from .arguments.plant import identify, simulate, target, tune
from .errors import Interrupted, Stopped

COMMANDS = (target, identify, tune, simulate, train, regions, compare, search, plan, report, watch, doctor, completion)
INTERRUPTED, CUT_OFF = 130, 141
"""Exit codes, as shells have them for SIGINT and SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input gives one sentence on standard error and exit code 2."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING, handlers=[_Standard()])
    logging.getLogger("entrostat").setLevel(logging.INFO)
    options = argparse.Namespace(extra=None)
    try:
        sys.path.append(os.getcwd())  # for `import_path`; last, so that no file there hides an installed module
        options = parsed(arguments)
        check_modules(options.needs)
        options.command(options)
        sys.stdout.flush()
    except Interrupted as error:
        return _say(error, INTERRUPTED)
    except InputError as error:
        return _say(error)
    except BrokenPipeError:  # as with `entrostat target FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        return CUT_OFF
    except OSError as error:
        if error.strerror is None:  # no file's, but a network library's
            raise
        return _say(f"cannot use {error.filename or 'a file'}: {error.strerror}; give a path that can be written to.")
    except ModuleNotFoundError as error:
        if options.extra is None or (error.name or "entrostat").partition(".")[0] == "entrostat":
            raise
        needed = f"this needs the module `{error.name}`, which is not installed"
        return _say(f"{needed}; add it with {install(options.extra)}.")
    except KeyboardInterrupt:
        return _say("interrupted.", INTERRUPTED)
    return 0


class _Standard(logging.Handler):
    """Writes to what standard error is by then: a live display puts itself in its place, and lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _say(message: object, code: int = 2) -> int:
    """Print a sentence, of what stops all ranks once, and pass on the exit code."""
    if not isinstance(message, Stopped) or os.environ.get("RANK", "0") == "0":
        print(f"entrostat: {message}", file=sys.stderr)
    return code


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, read; overrides of `train` may stand behind its options, too."""
    top = parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    _check_words(top, words)
    options, rest = top.parse_known_args(words)
    if rest and (not hasattr(options, "words") or any(word.startswith("-") for word in rest)):
        options.commands[words[0]].error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.words += rest
    return options


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="entrostat", description="Hold a policy's entropy on a curve during RLVR.")
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    top.set_defaults(parser=top, commands=commands.choices)
    return top


def _check_words(top: Parser, words: Sequence[str]) -> None:
    """Whether there are the command and the options that are asked for; what is meant otherwise."""
    known = top.get_default("commands")
    if words and not words[0].startswith("-") and words[0] not in known:
        close = difflib.get_close_matches(words[0], known, n=1)
        remedy = f"did you mean `entrostat {close[0]}`?" if close else f"write one of: {', '.join(known)}."
        raise InputError(f"there is no command `{words[0][:60]}`; {remedy}")
    command = known.get(words[0], top) if words else top
    command.check_options(itertools.takewhile(lambda word: word != "--", words))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata  # a tenth of the time that help takes

        print("entrostat", metadata.version("entrostat"))
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
