"""Small real runs for the tests: DeepSpeed on the CPU."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

from entrostat.trainer.cli import main
from entrostat.trainer.engine.launcher import forget_launcher

SMALL = [
    "examples/controlled.yaml",
    "steps=6",
    "rollout.prompts=8",
    "update.minibatches=2",
    "evaluation={every: 5, prompts: 8, samples: 8}",
    "checkpoint.every=2",
]
ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
forget_launcher(ENVIRONMENT)


def entrostat(*words: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the command line in this process, which has the imports already, and return what it did."""
    out, err = StringIO(), StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main([*map(str, words)])
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def process(*words: str | Path, launcher: Sequence[str] = ()) -> subprocess.CompletedProcess:
    """The same in a process of its own, as a user starts it, or in those of a launcher."""
    command = [sys.executable, *launcher, "-m", "entrostat.trainer.cli", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def hear_interrupts() -> None:
    """Ctrl-C reaches a command even where these tests run in a shell's background, which has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(words: Sequence[str | Path], folder: Path, **environment: str) -> subprocess.Popen:
    """A command under way, with pipes, as a user starts it."""
    command = [sys.executable, "-m", "entrostat.trainer.cli", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = ENVIRONMENT | environment
    return subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=hear_interrupts, **pipes)


def interrupted(words: Sequence[str | Path], ready: str, folder: Path) -> tuple[int, str, str]:
    """A command that gets Ctrl-C once a line of its output holds `ready`: its code, the rest of it, and its errors."""
    with started(words, folder, PYTHONUNBUFFERED="1") as child:
        for line in child.stdout:
            if ready in line:
                break
        child.send_signal(signal.SIGINT)
        out, said = child.communicate(timeout=300)
    return child.returncode, out, said


def train(out: Path, *overrides: str, store: str = "null") -> subprocess.CompletedProcess:
    """A small run into `out`; `store` is MLflow's tracking URI, or null."""
    done = entrostat("train", *SMALL, f"tracking.mlflow={store}", *overrides, "--out", out)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def watched(folder: Path) -> tuple[str, dict]:
    """The page of a run's folder and what is new on it, from the server of `entrostat watch`."""
    from entrostat.trainer.commands.watch import watcher

    server = watcher([folder])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page, news = (urllib.request.urlopen(server.address(path), timeout=60).read() for path in ("/", "/news"))
        return page.decode(), json.loads(news)
    finally:
        server.shutdown()
        server.server_close()


def mlflow_store(folder: Path) -> str:
    """The address of an empty MLflow store in `folder`, copied: to make one takes seconds."""
    shutil.copy(_empty_store(), folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@cache
def _empty_store() -> Path:
    from mlflow import MlflowClient

    path = Path(tempfile.mkdtemp()) / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def lines(out: Path, timed: bool = False) -> list[dict]:
    """The metrics of a run, without the seconds, which no two runs share."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if timed or not k.startswith("time/")} for row in rows]
