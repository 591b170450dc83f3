"""A run from start to end: set-up, the loop, tracking, checkpoints, the report."""

from __future__ import annotations

import errno
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from entrostat.control import EntropyController
from entrostat.inputs.errors import InputError
from entrostat.inputs.files import check_regular
from entrostat.inputs.state import count
from entrostat.measure.ranks import Disagreement

from .adapter import add_adapter
from .config import RunConfig
from .engine.checkpoint import load_checkpoint, newest_checkpoint, newest_step, save_checkpoint
from .engine.engine import Engine, init_distributed
from .engine.heartbeat import Heartbeat
from .engine.interrupt import Interrupts
from .engine.launcher import resuming
from .engine.processor import emulates_bfloat16
from .engine.settings import deepspeed_settings
from .engine.state import Parts, gathered, restore, updates
from .errors import Interrupted, Stopped, Unsampled
from .loop import evaluation, train_step
from .policy.models import keep_few_activations, load_model, model_source
from .policy.schedule import learning_rate
from .rollout.open import open_sampler
from .seeds import seed_of
from .step.reference import start_policy
from .step.session import Session
from .step.snapshots import Snapshots
from .tasks import Task, load_task
from .tasks.base import Split
from .tracking.folder import RunFolder
from .tracking.record import Tracker, complaining

logger = logging.getLogger("entrostat.trainer")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a disk that may come without a file's name."""
UNREWARDED = 10
"""Steps in a row without a single reward after which a run stops."""


def run(config: RunConfig, out: Path, resume: bool = False) -> None:
    """Train as `config` says and write everything under `out`.

    Raises:
        InputError: the folder already holds a run (without `resume`), or something in the configuration does not fit.
        Stopped: the run cannot go on, on any rank.
    """
    folder = RunFolder(out)
    if folder.started and not resume:
        raise InputError(f"{out} already holds a run; give another --out, or {resuming(out)}.")
    session = open_session(config)
    session.engine.on_rank0(lambda: _check_attachments(config))
    start, unevaluated = _restore(session, folder) if resume else (0, None)
    tracker = Tracker(config, folder) if session.engine.rank == 0 else None
    if start >= config.steps:
        if tracker:
            print(f"{out} is finished: all {config.steps} steps are done; write steps=N to go further.")
            tracker.deliver()
        return
    if tracker and resume:
        print(f"{out} goes on at step {start}, {start} of {config.steps} done{', from its checkpoint' * (start > 0)}.")
    try:
        _run(session, folder, tracker, start, unevaluated)
    except KeyboardInterrupt:
        raise Interrupted(_farewell(folder, "interrupted")) from None


def _run(
    session: Session, folder: RunFolder, tracker: Tracker | None, start: int, unevaluated: dict[str, float] | None
) -> None:
    with Heartbeat(lambda rank: _farewell(folder, f"rank {rank} is lost")) as heartbeat, _closing(session, tracker):
        try:
            session.engine.on_rank0(lambda: tracker.open(start) if tracker else None)
            session.on_step_end = _snapshots(session, folder.path, start + (unevaluated is not None))
            with Interrupts(tells=session.engine.rank == 0) as interrupts:
                _train(session, folder, tracker, start, unevaluated, interrupts)
        except OSError as error:
            if error.filename is None and error.errno not in FULL:  # a network's, and on this rank alone
                raise
            what = error.filename or folder.path
            raise Stopped(_farewell(folder, f"cannot write {what}: {error.strerror}")) from None
        except Disagreement as error:
            raise Stopped(str(error)) from None
        except RuntimeError:
            heartbeat.await_verdict()  # where a rank was lost in a collective this is the last line
            raise


def _check_attachments(config: RunConfig) -> None:
    for path in config.tracking.attachments:
        check_regular(path, "a file to attach, or leave it out of `tracking.attachments`")


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
            f"{world} ranks; write a `rollout.prompts` that is a multiple of both."
        )
    if config.update.shuffle == "prompts" and config.rollout.prompts % (world * config.update.minibatches):
        raise InputError(
            f"{config.rollout.prompts} prompts do not divide over {world} ranks and {config.update.minibatches} "
            "minibatches of whole groups; write a `rollout.prompts` that is a multiple of their product."
        )
    config.control.measurement.rows(responses // world, 0)  # refuses too small a share before the first rollout
    torch.manual_seed(seed_of(config.seed))
    task, control = load_task(config.task), EntropyController(config.control, total_steps=config.steps)
    check_prompts(task, config)
    settings = deepspeed_settings(config.update, config.engine, rows=responses // (world * config.update.minibatches))
    model, tokenizer = load_policy(config, settings)
    engine = Engine(model, config.update, settings)
    sampler = open_sampler(config, engine.model, tokenizer, model_source(config.model))
    reference = start_policy(config, engine.model)
    return Session(config, engine, tokenizer, sampler, task, control, reference, learning_rate(config))


def check_prompts(task: Task, config: RunConfig) -> None:
    """Whether the task has as many prompts as rollouts and evaluations draw, before anything is trained.

    Raises:
        InputError: it has fewer.
    """
    evaluated = config.evaluation.prompts
    wanted: list[tuple[str, int, Split]] = [("rollout.prompts", config.rollout.prompts, "train")]
    wanted += [("evaluation.prompts", evaluated, "heldout"), ("evaluation.prompts", evaluated, "train")]
    for key, prompts, split in wanted:
        try:
            task.sample(prompts, random.Random(0), split)
        except InputError as error:
            reason = str(error).partition(";")[0]
            raise InputError(f"`{key}` is too large ({reason}); write a smaller one.") from None


def load_policy(config: RunConfig, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The policy and its tokenizer; under ZeRO-3 each rank loads its part only."""
    keep = None
    if settings["zero_optimization"]["stage"] == 3:
        from transformers.integrations import HfDeepSpeedConfig

        keep = HfDeepSpeedConfig(settings)  # transformers looks for it while it loads
    dtype = torch.bfloat16 if settings["bf16"]["enabled"] else torch.float32
    if dtype == torch.bfloat16 and dist.get_backend() == "gloo" and emulates_bfloat16():
        logger.warning("this processor emulates bfloat16, several times slower than `engine.dtype: float32`.")
    model, tokenizer = load_model(config.model, dtype, config.chat)
    if config.adapter:
        add_adapter(model, config.adapter)
    if config.engine.gradient_checkpointing:
        keep_few_activations(model)
    del keep
    return model, tokenizer


def _train(
    session: Session,
    folder: RunFolder,
    tracker: Tracker | None,
    start: int,
    unevaluated: dict[str, float] | None,
    interrupts: Interrupts,
) -> None:
    """All steps from `start` on.

    Args:
        unevaluated: metrics of step `start`, where its updates are done and its evaluation is not.
    """
    config = session.config
    unrewarded = 0
    for step in range(start, config.steps):
        last = step == config.steps - 1
        try:
            metrics = unevaluated if unevaluated and step == start else train_step(session, step)
        except Unsampled as error:
            raise _unsampled(session, folder, step, str(error)) from None
        if last or step % config.evaluation.every == 0:
            try:
                metrics |= evaluation(session, step + 1)
            except Unsampled as error:
                failed = f"in the evaluation after step {step} {error}"
                raise _unsampled(session, folder, step + 1, failed, unevaluated=metrics) from None
        interrupted = session.engine.on_rank0(partial(_record, tracker, step, metrics, interrupts))
        unrewarded = unrewarded + 1 if metrics["reward/missing_fraction"] == 1 else 0
        why = _stop(session, unrewarded)
        if last or why or interrupted or (step + 1) % config.checkpoint.every == 0:
            _save(session, folder, step + 1)
        if why:
            raise Stopped(f"stopped after step {step}, with a checkpoint: {why}.")
        if interrupted and not last:
            again = resuming(folder.path)
            raise Interrupted(f"interrupted after step {step}, with a checkpoint; go on with {again}.")


def _unsampled(
    session: Session, folder: RunFolder, step: int, why: str, unevaluated: dict[str, float] | None = None
) -> Stopped:
    """The end of a run that can sample no more, with a checkpoint after `step` steps."""
    with suppress(Stopped):  # of a policy that is spoilt
        _save(session, folder, step, unevaluated)
    return Stopped(_farewell(folder, why.rstrip(".")))


def _record(tracker: Tracker | None, step: int, metrics: dict[str, float], interrupts: Interrupts) -> bool:
    """Log a step on the lead rank; whether a person has asked for the run's end, which all ranks have to learn."""
    if tracker:
        tracker.log(step, metrics)
    return interrupts.asked


def _stop(session: Session, unrewarded: int) -> str | None:
    """Why the run has to stop now, with what to do then; none: it goes on."""
    if session.control.stop:
        return f"{session.control.stop}; go on with `entrostat train --resume OUT control.guard.action=warn`"
    if unrewarded == UNREWARDED:
        return f"for {UNREWARDED} steps no answer got a reward; mend the reward function, then resume the run"
    return None


def _snapshots(session: Session, out: Path, start: int) -> Callable[..., None]:
    """Snapshot of the inside of a step, for the report; one that cannot be written ends no run."""
    config, lead = session.config, session.engine.rank == 0
    snapshots = Snapshots(out, config.steps, config.tracking.snapshots, start, lead)

    def take(*seen: Any) -> None:
        with complaining("a snapshot was not written"):
            snapshots.take(*seen)

    return take


@contextmanager
def _closing(session: Session, tracker: Tracker | None) -> Iterator[None]:
    """Close the record whatever happens; where all ranks end, they end together: launchers kill the others of one."""
    status, together = "FAILED", False
    try:
        yield
        status, together = "FINISHED", True
    except Interrupted:
        status, together = "KILLED", True
        raise
    except Stopped:
        together = True
        raise
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        session.sampler.close()
        if tracker:
            tracker.close(status)
        if together:
            session.engine.wait()


def _farewell(folder: RunFolder, why: str) -> str:
    step = newest_step(folder.checkpoints)
    if step is None:
        return f"{why}; there is no checkpoint yet: start again in another folder."
    return f"{why}; go on with {resuming(folder.path)}, at step {step}, from its checkpoint."


def _save(session: Session, folder: RunFolder, step: int, unevaluated: dict[str, float] | None = None) -> None:
    """The checkpoint after `step` steps.

    Args:
        unevaluated: metrics of the last of them, which were not recorded, since its evaluation failed.
    """
    engine, keep = session.engine, session.config.checkpoint.keep
    control = session.control.state_dict()
    state = {"step": step, "updates": updates(engine), "control": control, "unevaluated": unevaluated}
    parts = gathered(engine)

    def write() -> None:
        _refuse_spoilt(parts, folder)
        save_checkpoint(folder.checkpoints, step, parts, state, keep)

    try:
        engine.on_rank0(write)
    except InputError as error:
        raise Stopped(str(error)) from None


def _refuse_spoilt(parts: Parts, folder: RunFolder) -> None:
    if not all(bool(weight.isfinite().all()) for weight in parts["policy"].values()):
        raise InputError(
            _farewell(folder, "the policy's weights are not finite, so that no checkpoint is made of them")
        )


def _restore(session: Session, folder: RunFolder) -> tuple[int, dict[str, float] | None]:
    """Go on from the newest whole checkpoint.

    Returns:
        The step to do next, 0 where the run died before its first one, and the metrics of that step where its updates
        are done and its evaluation is not.
    """
    path = session.engine.on_rank0(lambda: newest_checkpoint(folder.checkpoints))
    if path is None:
        return 0, None
    parts, state = load_checkpoint(path)
    try:
        step, taken, control = count(state["step"]), count(state["updates"]), state["control"]
        unevaluated = state["unevaluated"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has a damaged state ({error}); remove it to go on from the one before.") from None
    restore(session.engine, parts, taken)
    session.control.load_state_dict(control)
    if unevaluated is None:
        return step, None
    recorded = session.engine.on_rank0(lambda: any(row["step"] == step - 1 for row in folder.rows()))
    return (step, None) if recorded else (step - 1, unevaluated)  # an earlier resume may have made up for it
