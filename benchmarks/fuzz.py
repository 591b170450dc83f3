"""Coverage-guided fuzzing of every reader of files: whatever the bytes, one sentence or a value, and in bounded time.

    python -m venv .venv/fuzz && .venv/fuzz/bin/pip install atheris -e '.[report]' tqdm
    .venv/fuzz/bin/python -m benchmarks.fuzz [--inputs 200000] [--seed 1]

atheris (libFuzzer for Python) mutates the bytes towards branches of `controller` and `trainer` that were not taken yet.
Anything but a value or an `InputError` ends the run with a traceback and leaves the bytes in `crash-*`. Not part of the
tests: `tests/test_any_file.py` puts Hypothesis on the same readers. Writes docs/results/fuzz.md.
"""

from __future__ import annotations

import argparse
import atexit
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["controller", "trainer"]):
    from benchmarks.readers import READERS
    from controller.errors import InputError

SLOWEST = 5
"""Seconds for one input; beyond it libFuzzer stops."""
WORDS = b"target type constant value points law pid kp actuator guard step actor/entropy command eps_low version 1e309"


class Fuzz:
    """Feeds each input to the reader that its first byte chooses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = sorted(READERS)
        self.counts: Counter[str] = Counter()
        self.refused = 0

    def __call__(self, data: bytes) -> None:
        name = self._names[data[0] % len(self._names)] if data else self._names[0]
        self.counts[name] += 1
        try:
            READERS[name](self._folder, data[1:])
        except InputError:
            self.refused += 1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--inputs", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "words").write_text("".join(f'"{word}"\n' for word in WORDS.decode().split()))
        fuzz, start = Fuzz(folder), time.process_time()
        flags = [f"-runs={chosen.inputs}", f"-seed={chosen.seed}", f"-dict={folder}/words", f"-timeout={SLOWEST}"]
        atheris.Setup([sys.argv[0], *flags, "-max_len=2048", "-print_final_stats=0"], fuzz)
        atexit.register(write, fuzz, chosen, start)  # libFuzzer does not come back
        atheris.Fuzz()


def write(fuzz: Fuzz, chosen: argparse.Namespace, start: float) -> None:
    if sum(fuzz.counts.values()) < chosen.inputs:
        return  # it crashed, and said so
    table = "\n".join(
        [
            "# Coverage-guided fuzzing of the file readers",
            "",
            f"`python -m benchmarks.fuzz --inputs {chosen.inputs} --seed {chosen.seed}`",
            "",
            f"{sum(fuzz.counts.values()):,} inputs in {time.process_time() - start:.0f} s of processor time, "
            f"{fuzz.refused:,} refused in a sentence, the others read; none ended in anything else, or took "
            f"{SLOWEST} s.",
            "",
            "| reader | inputs |",
            "|---|---|",
            *(f"| {name} | {count:,} |" for name, count in sorted(fuzz.counts.items())),
            "",
        ]
    )
    (Path(__file__).parents[1] / "docs/results/fuzz.md").write_text(table)
    print(json.dumps(fuzz.counts))


if __name__ == "__main__":
    main()
