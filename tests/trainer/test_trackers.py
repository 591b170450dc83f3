"""What each tracker holds of a run: MLflow on SQLite, TensorBoard's event files, W&B offline."""

import re
import struct
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from entrostat.trainer.config import load_config
from entrostat.trainer.tracking.delivery import QUIET, Courier
from entrostat.trainer.tracking.folder import RunFolder
from entrostat.trainer.tracking.stores import asked_for, open_store
from entrostat.trainer.tracking.wandb_store import last_step
from tests.runs import ROOT, mlflow_store

STEPS = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of twelve steps, with its files."""
    for name, value in (QUIET | {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2"}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "plant.yaml").write_text("gain: 0.02\n")
    words = [f"tracking.mlflow={mlflow_store(tmp_path)}", f"tracking.attachments=[{tmp_path}/plant.yaml]"]
    words += ["tracking.wandb=offline", "tracking.tensorboard=true"]
    folder = RunFolder(tmp_path / "run")
    folder.open(load_config("examples/controlled.yaml", words), 0)
    for step in range(STEPS):
        folder.append(step, {"actor/entropy": 1 / (step + 1), "controller/error": float("nan")})
    folder.note("mlflow", command="entrostat train examples/controlled.yaml seed=3")
    (folder.path / "report.html").write_text("<p>the report</p>")
    return folder


def deliver(folder: RunFolder, tracker: str) -> None:
    assert Courier(folder, load_config(folder.path / "config.yaml"), tracker).deliver("FINISHED")


def expected(first: int = 0) -> list[tuple[int, float]]:
    return [(step, pytest.approx(1 / (step + 1))) for step in range(first, STEPS)]


@pytest.fixture
def in_mlflow(folder: RunFolder):
    """The run as MLflow has it, and its client."""
    courier = Courier(folder, load_config(folder.path / "config.yaml"))
    assert courier.deliver(None)
    client = mlflow.MlflowClient(f"sqlite:///{folder.path.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("entrostat").experiment_id
    while not any(name.startswith("system/") for name in client.search_runs([experiment])[0].data.metrics):
        pass  # the machine's metrics come from a thread
    assert courier.deliver("FINISHED")
    return client, client.get_run(client.search_runs([experiment])[0].info.run_id)


def test_mlflow_holds_what_its_users_look_for(in_mlflow) -> None:
    client, run = in_mlflow
    assert run.data.params["control.law.effort"] == "0.2"
    assert run.data.params["rollout.prompts"] == "64"
    assert not [name for name in run.data.params if name.startswith("hardware")]
    assert run.data.tags["entrostat/target"] == "increase_then_decrease"
    assert run.data.tags["entrostat/version"].startswith("0.")
    assert run.data.tags["mlflow.user"]
    assert re.fullmatch("[0-9a-f]{40}", run.data.tags["mlflow.source.git.commit"])
    assert run.data.tags["entrostat/command"] == "entrostat train examples/controlled.yaml seed=3"
    page = (ROOT / "docs" / "how-to" / "tracking.md").read_text()
    assert [tag for tag in run.data.tags if tag.startswith("entrostat/") and f"`{tag}`" not in page] == []
    assert "entropy ended at" in run.data.tags["mlflow.note.content"]
    assert run.info.status == "FINISHED"
    assert client.get_experiment_by_name("entrostat").tags["mlflow.experimentKind"] == "custom_model_development"
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "actor/entropy")] == expected()
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "report.html", "plant.yaml"} <= files
    [data] = run.inputs.dataset_inputs
    assert data.dataset.name == "expressions"
    [model] = run.inputs.model_inputs
    assert client.get_logged_model(model.model_id).name == "expressions"


def test_runs_from_one_model_share_its_entry(in_mlflow, folder: RunFolder, tmp_path: Path) -> None:
    client, run = in_mlflow
    other = RunFolder(tmp_path / "other")
    other.open(load_config(folder.path / "config.yaml"), 0)
    other.append(0, {"actor/entropy": 1.0})
    deliver(other, "mlflow")
    runs = [client.get_run(found.info.run_id) for found in client.search_runs([run.info.experiment_id])]
    assert len(runs) == 2
    assert len({run.inputs.model_inputs[0].model_id for run in runs}) == 1


def test_tensorboard_holds_every_step_under_the_same_names(folder: RunFolder) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is missing: pip install -e '.[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    deliver(folder, "tensorboard")
    folder.set_status("RUNNING")
    deliver(folder, "tensorboard")  # nothing twice
    found = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    values = [(e.step, float(e.tensor_proto.float_val[0])) for e in found.Tensors("actor/entropy")]
    assert values == expected()
    assert "controller/error" not in found.Tags()["tensors"]


def event_files(folder: RunFolder) -> list[Path]:
    return sorted((folder.path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def in_tensorboard(folder: RunFolder, name: str) -> list[tuple[int, float]]:
    """(step, value) of all event files, in no order that matters."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    events = [event for path in event_files(folder) for event in EventFileLoader(str(path)).Load()]
    found = [(e.step, float(v.tensor.float_val[0])) for e in events for v in e.summary.value if v.tag == name]
    return sorted(found)


@pytest.mark.parametrize("lost", [1, 150, 400, 0])
def test_a_kill_at_any_byte_leaves_tensorboard_with_every_value_once(folder: RunFolder, lost: int) -> None:
    """A kill loses what was not yet written, `lost` bytes, and whatever would have been noted about it."""
    pytest.importorskip("tensorboard", reason="TensorBoard is missing: pip install -e '.[tensorboard]'")
    for step in range(STEPS, STEPS + 4):
        folder.append(step, {"actor/entropy": 1 / (step + 1), "actor/lr": 0.5, "actor/grad_norm": 1.0})
    before = {path.name: path.read_bytes() for path in folder.path.glob("tensorboard*.json")}
    assert Courier(folder, load_config(folder.path / "config.yaml"), "tensorboard").deliver(None)
    (folder.path / "tensorboard.json").unlink(missing_ok=True)
    for name, content in before.items():
        (folder.path / name).write_bytes(content)
    [file] = event_files(folder)
    file.write_bytes(file.read_bytes()[: file.stat().st_size - lost])
    for _ in range(2):
        folder.set_status("RUNNING")
        deliver(folder, "tensorboard")
    for name in ("actor/lr", "actor/grad_norm"):
        assert [step for step, _ in in_tensorboard(folder, name)] == list(range(STEPS, STEPS + 4))
    assert [step for step, _ in in_tensorboard(folder, "actor/entropy")] == list(range(STEPS + 4))


def test_an_event_file_without_a_value_does_not_hide_the_one_before(folder: RunFolder) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is missing: pip install -e '.[tensorboard]'")
    config = load_config(folder.path / "config.yaml")
    deliver(folder, "tensorboard")
    (folder.path / "tensorboard.json").unlink()
    stores = [open_store("tensorboard", folder, config) for _ in range(2)]
    assert [store.connect() for store in stores] == [STEPS - 2] * 2
    stores[1].send(folder.rows())
    assert len(in_tensorboard(folder, "actor/entropy")) == STEPS + STEPS - 1  # all but the last, which it knew of


def test_wandb_offline_sends_again_what_a_kill_kept_from_the_disk(folder: RunFolder) -> None:
    pytest.importorskip("wandb", reason="W&B is missing: pip install -e '.[wandb]'")
    deliver(folder, "wandb")
    [file] = (folder.path / "wandb").glob("offline-run-*/*.wandb")
    whole = file.read_bytes()
    for step in (7, 3):
        cut = bisect_left(range(len(whole)), step, key=lambda size: len(steps_in(whole[:size])))
        file.write_bytes(whole[: cut + 5])  # within the next record
        assert last_step(folder.path / "wandb", folder.key("wandb")) == step - 1
    folder.set_status("RUNNING")
    deliver(folder, "wandb")
    found = [
        step for path in (folder.path / "wandb").glob("offline-run-*/*.wandb") for step in steps_in(path.read_bytes())
    ]
    assert sorted(found) == list(range(STEPS))


def steps_in(data: bytes) -> list[int]:
    history = (
        {item.key or "/".join(item.nested_key): item.value_json for item in r.history.item} for r in parsed(data)
    )
    return [int(row["_step"]) for row in history if "actor/entropy" in row]


def test_wandb_offline_holds_every_step_and_the_configuration(folder: RunFolder) -> None:
    pytest.importorskip("wandb", reason="W&B is missing: pip install -e '.[wandb]'")
    deliver(folder, "wandb")
    records = list(wandb_records(folder.path / "wandb"))
    history = [{item.key or "/".join(item.nested_key): item.value_json for item in r.history.item} for r in records]
    steps = [(int(row["_step"]), float(row["actor/entropy"])) for row in history if "actor/entropy" in row]
    assert steps == expected()
    config = {item.key: item.value_json for r in records for item in r.run.config.update}
    assert '"peak": 1.0' in config["control"].replace(":1.0", ": 1.0")
    assert folder.delivered("wandb")


def wandb_records(folder: Path) -> Iterator:
    """What W&B wrote, record by record: a LevelDB log, in blocks of 32 KiB, behind a header of 7 bytes."""
    [path] = folder.glob("offline-run-*/*.wandb")
    return parsed(path.read_bytes())


def parsed(data: bytes) -> Iterator:
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):
            return
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole of a record, or its last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def test_trackers_are_those_that_the_configuration_names(folder: RunFolder) -> None:
    assert asked_for(load_config(folder.path / "config.yaml")) == ["mlflow", "tensorboard", "wandb"]
    assert asked_for(load_config("examples/controlled.yaml", ["tracking.mlflow=null"])) == []
