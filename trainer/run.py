"""A run from start to end: set-up, the loop, tracking, checkpoints, the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from controller.control import EntropyController
from controller.errors import InputError
from controller.saved import count

from .checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from .config import RunConfig
from .deepspeed_settings import deepspeed_settings
from .engine import Engine, init_distributed
from .engine_state import gathered, restore, updates
from .errors import Stopped
from .estimate import in_words
from .loop import Session, evaluation, train_step
from .models import load_model, model_source
from .reference import start_policy
from .reporting.rundata import load_run
from .reporting.write import write_report
from .rollout.open import open_sampler
from .seeds import seed_of
from .snapshots import Snapshots
from .status import Status
from .tasks import load_task
from .tracking import MLflow, RunFolder

STOPPED = (
    "stopped after step {step}, with a checkpoint: {why}; look at {out}/report.html, then go on with "
    "`entrostat train --resume {out} control.guard.action=warn`."
)

UNSAVED = (
    "the checkpoint of step {step} cannot be written: {why}; the one before it is whole: make room, then go on with "
    "`entrostat train --resume {folder.path}`."
)


def run(config: RunConfig, out: Path, resume: bool = False) -> None:
    """Train as `config` says and write everything under `out`.

    Raises:
        InputError: the folder already holds a run (without `resume`), or something in the configuration does not fit.
    """
    folder = RunFolder(out)
    if folder.started and not resume:
        raise InputError(f"{out} already holds a run; give another --out, or `entrostat train --resume {out}`.")
    session = open_session(config)
    start = _restore(session, folder) if resume else 0
    lead = session.engine.rank == 0
    if start >= config.steps:
        if lead:
            print(f"{out} is finished: all {config.steps} steps are done; write steps=N to go further.")
        return
    tracker = Tracker(config, folder, start) if lead else None
    session.look = Snapshots(out, config.steps, config.tracking.snapshots, start, lead).take
    status = "FAILED"
    try:
        for step in range(start, config.steps):
            metrics = train_step(session, step)
            last = step == config.steps - 1
            if last or step % config.evaluation.every == 0:
                metrics |= evaluation(session, step + 1)
            if tracker:
                tracker.log(step, metrics)
            if last or session.control.stop or (step + 1) % config.checkpoint.every == 0:
                _save(session, folder, step + 1)
            if session.control.stop:
                raise Stopped(STOPPED.format(step=step + 1, why=session.control.stop, out=out))
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        session.sampler.close()
        if tracker:
            tracker.close(status)


def open_session(config: RunConfig) -> Session:
    """Everything a loop needs, on this rank."""
    if config.engine.threads:
        torch.set_num_threads(config.engine.threads)
    init_distributed(config.engine.device)

    world = dist.get_world_size()
    responses = config.rollout.prompts * config.rollout.responses_per_prompt
    if config.rollout.prompts % world or responses % (world * config.update.minibatches):
        raise InputError(
            f"{config.rollout.prompts} prompts and {config.update.minibatches} minibatches do not divide over "
            f"{world} ranks; write a rollout.prompts that is a multiple of both."
        )
    torch.manual_seed(seed_of(config.seed))
    task, control = load_task(config.task), EntropyController(config.control)
    settings = deepspeed_settings(config.update, config.engine, rows=responses // (world * config.update.minibatches))
    model, tokenizer = load_policy(config, settings)
    engine = Engine(model, config.update, settings)
    sampler = open_sampler(config, engine.model, tokenizer, model_source(config.model))
    return Session(config, engine, tokenizer, sampler, task, control, start_policy(config, engine.device))


def load_policy(config: RunConfig, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The policy and its tokenizer; under ZeRO-3 each rank loads its part only."""
    keep = None
    if settings["zero_optimization"]["stage"] == 3:
        from transformers.integrations import HfDeepSpeedConfig

        keep = HfDeepSpeedConfig(settings)  # transformers looks for it while it loads
    dtype = torch.bfloat16 if settings["bf16"]["enabled"] else torch.float32
    model, tokenizer = load_model(config.model, dtype, config.chat)
    if config.engine.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    del keep
    return model, tokenizer


class Tracker:
    """The lead rank's record of a run: folder, MLflow, terminal, and the report at its end."""

    def __init__(self, config: RunConfig, folder: RunFolder, start: int) -> None:
        self._folder, self._status = folder, Status(config.steps, start)
        folder.open(config, start)
        self._mlflow = None
        if config.tracking.mlflow:
            self._mlflow = MLflow(config, folder.path.name, folder.status.get("mlflow_run_id"))
            folder.set_status(mlflow_run_id=self._mlflow.run_id)
            for row in folder.rows():
                self._mlflow.append(row.pop("step"), row)
        folder.set_status(status="RUNNING")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self._folder.append(step, metrics)
        if self._mlflow:
            self._mlflow.append(step, metrics)
        self._status.show(step, metrics)

    def close(self, status: str) -> None:
        """Write the report and end the MLflow run as `status`: FINISHED, FAILED or KILLED."""
        self._status.close()
        if self._folder.started:
            run = load_run(self._folder.path)
            print("\n".join([write_report([run], self._folder.path), in_words(run)]).rstrip())
        self._folder.set_status(status=status)
        if self._mlflow:
            self._mlflow.finish(status, self._folder.artifacts)


def _save(session: Session, folder: RunFolder, step: int) -> None:
    engine, keep = session.engine, session.config.checkpoint.keep
    state = {"step": step, "updates": updates(engine), "control": session.control.state_dict()}
    parts = gathered(engine)
    try:
        engine.on_lead(lambda: save_checkpoint(folder.checkpoints, step, parts, state, keep))
    except OSError as error:
        raise Stopped(UNSAVED.format(step=step, why=error.strerror, folder=folder)) from None


def _restore(session: Session, folder: RunFolder) -> int:
    """Go on from the newest whole checkpoint; the step to do next, 0 where the run died before its first one."""
    path = session.engine.on_lead(lambda: newest_checkpoint(folder.checkpoints))
    if path is None:
        return 0
    parts, state = load_checkpoint(path)
    try:
        step, taken, control = count(state["step"]), count(state["updates"]), state["control"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has a damaged state ({error}); remove it to go on from the one before.") from None
    restore(session.engine, parts, taken)
    session.control.load_state_dict(control)
    return step
