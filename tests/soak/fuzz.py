"""Coverage-guided fuzzing of every reader of files: whatever the bytes, one sentence or a value, and in bounded time.

    python -m venv .venv/fuzz && .venv/fuzz/bin/pip install atheris -e '.[report]' tqdm
    .venv/fuzz/bin/python -m tests.soak.fuzz [--inputs 200000] [--seed 1]

atheris (libFuzzer for Python) mutates the bytes towards branches of `controller` and `trainer` that were not taken yet.
Anything but a value or an `InputError` ends the run with a traceback and leaves the bytes in `crash-*`. Not part of the
tests: `tests/trainer/test_any_file.py` puts Hypothesis on the same readers. Writes docs/results/fuzz.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import atheris

from benchmarks.common import options, page, table

with atheris.instrument_imports(include=["entrostat"]):
    from entrostat import ControlConfig, EntropyController, InputError
    from entrostat.inputs.configuration import parse
    from tests.soak.readers import READERS

SLOWEST = 5
"""Seconds for one input; beyond it libFuzzer stops."""
SEEDS = {
    "control.yaml": b"target: {type: constant, value: 0.6}\nlaw: {type: pid, kp: 3}\nactuator: {type: sensitivity}\n",
    "a run's YAML": b"steps: 5\ncontrol: {law: {type: manual}, actuator: {type: static}}\nupdate: {minibatches: 8}\n",
    "target table": b"step,value\n0,0.5\n10,0.7\n",
    "metrics.jsonl": b'{"step": 0, "actor/entropy": 0.5}\n{"step": 1, "actor/entropy": null}\n',
    "status.json": b'{"status": "FINISHED"}',
    "logged run": b"step,entropy,command\n" + b"".join(b"%d,0.%d,0.5\n" % (n, n + 10) for n in range(60)),
    "controller's state": json.dumps(
        EntropyController(parse(ControlConfig, {"target": {"type": "constant", "value": 0.6}})).state_dict()
    ).encode(),
}
"""An honest file for most readers, to begin from."""
WORDS = b"target type constant value points law pid kp actuator guard step actor/entropy command eps_low version 1e309"


class Fuzz:
    """Feeds each input to the reader that its first byte chooses."""

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self._folder = folder
        self._names = sorted(READERS)
        self.counts: Counter[str] = Counter()
        self.refused = 0
        self._start, self._chosen = time.process_time(), chosen

    def __call__(self, data: bytes) -> None:
        if sum(self.counts.values()) == self._chosen.inputs:
            write(self, self._chosen, self._start)
            os._exit(0)  # libFuzzer itself does not come back
        name = self._names[data[0] % len(self._names)] if data else self._names[0]
        self.counts[name] += 1
        try:
            READERS[name](self._folder, data[1:])
        except InputError:
            self.refused += 1


def main() -> None:
    chosen = options(__doc__, inputs=200_000, seed=1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "words").write_text("".join(f'"{word}"\n' for word in WORDS.decode().split()))
        (folder / "corpus").mkdir()
        for index, name in enumerate(sorted(READERS)):
            (folder / "corpus" / str(index)).write_bytes(bytes([index]) + SEEDS.get(name, b"{}"))
        fuzz = Fuzz(folder, chosen)
        flags = [f"-runs={2 * chosen.inputs}", f"-seed={chosen.seed}", f"-dict={folder}/words", f"-timeout={SLOWEST}"]
        atheris.Setup([sys.argv[0], *flags, "-max_len=2048", str(folder / "corpus")], fuzz)
        atheris.Fuzz()


def write(fuzz: Fuzz, chosen: argparse.Namespace, start: float) -> None:
    page(
        "fuzz",
        "# Coverage-guided fuzzing of the file readers",
        f"`python -m tests.soak.fuzz --inputs {chosen.inputs} --seed {chosen.seed}`",
        f"{sum(fuzz.counts.values()):,} inputs in {time.process_time() - start:.0f} s of processor time, "
        f"{fuzz.refused:,} refused in a sentence, the others read; none ended in anything else, or took "
        f"{SLOWEST} s.",
        table("reader | inputs", [(name, f"{count:,}") for name, count in sorted(fuzz.counts.items())]),
    )


if __name__ == "__main__":
    main()
