"""`entrostat compare`: tune, train what is missing, write the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from entrostat.inputs.errors import InputError
from entrostat.inputs.files import read_json

from ..address import check_answers, without_password
from ..config import RunConfig
from ..tracking.folder import write_atomically
from ..tracking.mlflow_runs import find_experiment
from ..tracking.mlflow_store import TRAINING
from .pool import train_all
from .search import best_gains, trials
from .suite import Suite, held_out_jobs, load_suite, run_config
from .table import rows
from .write import write_comparison


def run_compare(
    file: Path, out: Path, workers: int | None = None, only: Sequence[str] | None = None, table: bool = False
) -> str:
    """Run a suite into `out`; a suite that was cut short goes on, and one that is finished is only written anew.

    Args:
        workers: runs at a time; one a core if none.
        only: strategies to train now; all if none. The table has every strategy with a finished run.
        table: whether to train nothing and write the table of the runs that are finished.

    Returns:
        The table as Markdown, and where the files are.

    Raises:
        InputError: the suite does not fit, or runs of it failed; the table then holds those that did not.
    """
    suite = load_suite(file)
    out.mkdir(parents=True, exist_ok=True)
    chosen = [] if table else _chosen(suite, only)
    if chosen:
        suite = _under_one_parent(suite, file.stem, out)
        train_all(_of(chosen, trials(suite)), out / "tuning", workers)
    tuned = best_gains(suite, out)
    gains = {name: found.gains for name, found in tuned.items()}
    failed = train_all(_of(chosen, held_out_jobs(suite, gains)), out / "runs", workers) if chosen else []
    found = rows(suite, gains, out)
    if not found:
        raise InputError(f"no run of {file} is finished in {out}; train it without --table.")
    text = write_comparison(suite, tuned, found, out, f"entrostat compare {file} --out {out}")
    if failed:
        first = f"{out / 'runs' / failed[0]}.log"
        raise InputError(f"{len(failed)} runs failed, the first is {failed[0]}; read {first}, then run this again.")
    return f"{text}\n{out / 'compare.html'}\n{out / 'compare.csv'}"


def _chosen(suite: Suite, only: Sequence[str] | None) -> list[str]:
    if unknown := [name for name in only or [] if name not in suite.strategies]:
        raise InputError(f"--only names {unknown[0]!r}; write some of: {', '.join(suite.strategies)}.")
    return list(only or suite.strategies)


def _of(chosen: Sequence[str], jobs: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """The jobs of some strategies, in the order of these."""
    return {name: jobs[name] for strategy in chosen for name in jobs if name.split("/")[0] == strategy}


def _under_one_parent(suite: Suite, name: str, out: Path) -> Suite:
    """The suite with MLflow's parent run in its tracking; the same parent when it goes on."""
    strategy, target = next(iter(suite.strategies.values())), next(iter(suite.targets.values()))
    tracking = run_config(suite, strategy, 0, target, {}).tracking
    if tracking.mlflow is None:
        return suite
    known = out / "parent.json"
    if not known.exists():
        write_atomically(known, json.dumps({"mlflow_run_id": _start_parent(tracking, name)}))
    parent = _parent(known)
    return suite.model_copy(update={"run": suite.run | {"tracking": tracking.model_dump() | {"parent": parent}}})


def _parent(known: Path) -> str:
    content = read_json(known, "the note of MLflow's parent run")
    if not isinstance(content, dict) or not isinstance(content.get("mlflow_run_id"), str):
        raise InputError(f"{known} names no MLflow run; remove it, and the suite begins another parent run.")
    return content["mlflow_run_id"]


def _start_parent(tracking: RunConfig, name: str) -> str:
    import mlflow

    try:
        check_answers(str(tracking.mlflow))
        client = mlflow.MlflowClient(tracking_uri=tracking.mlflow)
        experiment = find_experiment(client, tracking.experiment)
        where = experiment.experiment_id if experiment else client.create_experiment(tracking.experiment, tags=TRAINING)
        run = client.create_run(where, run_name=name)
        client.set_terminated(run.info.run_id)
    except (mlflow.MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        address = without_password(str(tracking.mlflow))
        raise InputError(f"MLflow at {address} does not answer ({reason}); correct `tracking.mlflow`.") from None
    return run.info.run_id
