"""`entrostat compare`: tune, train what is missing, write the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from entrostat.inputs.errors import InputError

from ..config import RunConfig
from .parent import parent_run
from .pool import failure, train_all
from .search import best_gains, tune
from .suite import Suite, held_out_jobs, load_suite, run_config
from .table import rows
from .write import write_comparison


def run_compare(
    file: Path, out: Path, workers: int | None = None, only: Sequence[str] | None = None, table: bool = False
) -> str:
    """Run a suite into `out`; a suite that was cut short goes on, and one that is finished is only written anew.
    Raises InputError: the suite does not fit, or runs of it failed; the table then holds those that did not.

    Args:
        workers: runs at a time; one a core if none.
        only: strategies to train now; all if none. The table has every strategy with a finished run.
        table: whether to train nothing and write the table of the runs that are finished.

    Returns:
        The table as Markdown, and where the files are.
    """
    suite = load_suite(file)
    out.mkdir(parents=True, exist_ok=True)
    chosen, failed = [] if table else _chosen(suite, only), []
    if chosen:
        suite = _under_one_parent(suite, file.stem, out)
        failed += [f"tuning/{run}" for run in tune(suite, chosen, out / "tuning", workers)]
    tuned = best_gains(suite, out)
    gains = {name: found.gains for name, found in tuned.items()}
    if chosen:
        jobs = _of(chosen, held_out_jobs(suite, gains))
        failed += [f"runs/{run}" for run in train_all(jobs, out / "runs", workers)]
    found = rows(suite, gains, out)
    text = write_comparison(suite, tuned, found, out, f"entrostat compare {file} --out {out}") if found else ""
    if failed:
        raise failure(failed, out)
    if not found:
        raise InputError(f"no run of {file} is finished in {out}; train it without --table.")
    return f"{text}\n{out / 'compare.html'}\n{out / 'compare.csv'}"


def _chosen(suite: Suite, only: Sequence[str] | None) -> list[str]:
    if unknown := [name for name in only or [] if name not in suite.strategies]:
        raise InputError(f"--only names {unknown[0]!r}; write some of: {', '.join(suite.strategies)}.")
    return list(only or suite.strategies)


def _of(chosen: Sequence[str], jobs: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    return {name: jobs[name] for strategy in chosen for name in jobs if name.split("/")[0] == strategy}


def _under_one_parent(suite: Suite, name: str, out: Path) -> Suite:
    """The suite with MLflow's parent run in its tracking; the same parent when it goes on."""
    strategy, target = next(iter(suite.strategies.values())), next(iter(suite.targets.values()))
    tracking = run_config(suite, strategy, 0, target, {}).tracking
    if tracking.mlflow is None:
        return suite
    parent = parent_run(tracking, name, out)
    return suite.model_copy(update={"run": suite.run | {"tracking": tracking.model_dump() | {"parent": parent}}})
