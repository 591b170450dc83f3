"""What the packages import, and that everything public says what it is."""

import ast
import importlib
import inspect
import subprocess
import sys
from importlib.util import find_spec

import pytest

import entrostat
from docs.site.hooks import meanings
from entrostat.inputs.configuration import Config
from tests.runs import ROOT

PARTS = {"controller": "entrostat", "sim": "entrostat.sim"}
HEAVY = {"torch", "transformers", "mlflow", "deepspeed", "vllm", "entrostat.trainer", "entrostat.sim"}
SCALAR_LOOP = """
import sys
from entrostat import EntropyController
control = EntropyController.from_yaml(sys.argv[1])
decisions = [control.step_scalar(0.9 - 0.01 * k) for k in range(3)]
assert all(-1 <= decision.command <= 1 for decision in decisions)
control.load_state_dict(control.state_dict())
"""


HOSTS = {
    "trl": "trl",
    "verl": "verl",
    "openrlhf": "openrlhf",
    "skyrl": "skyrl",
    "gymnasium": "sb3",
    "sb3_contrib": "sb3",
    "stable_baselines3": "sb3",
}
"""What only one room of the integrations imports, and that room; the last host of a room is the one it needs."""
OPTIONAL = {"entrostat.measure.kernels.": "triton"} | {
    f"entrostat.integrations.{room}": host for host, room in HOSTS.items()
}


def modules(package):
    """All modules, without those of a package that is not installed here."""
    names = (path.relative_to(ROOT / package).with_suffix("") for path in sorted((ROOT / package).rglob("*.py")))
    absent = tuple(prefix for prefix, needed in OPTIONAL.items() if find_spec(needed) is None)
    dotted = (".".join((PARTS[package], *name.parts)).removesuffix(".__init__") for name in names)
    return [name for name in dotted if not name.startswith(absent)]


def package_of(name):
    """The top-level package of a module; of ours, its part."""
    return ".".join(name.split(".")[: 2 if name.startswith("entrostat.") else 1])


def imported_by(path):
    """Packages that a file imports by their full names, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (package_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield package_of(node.module)


def loaded_after(code, *arguments):
    """Packages in sys.modules after a fresh interpreter has run `code`."""
    code += "\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    return {package_of(name) for name in done.stdout.split()}


def test_importing_the_controller_imports_no_torch():
    assert not loaded_after("import entrostat") & HEAVY


def test_a_loop_in_numbers_imports_no_torch(tmp_path):
    (tmp_path / "control.yaml").write_text("target: {type: constant, value: 0.6}\n")
    assert not loaded_after(SCALAR_LOOP, str(tmp_path / "control.yaml")) & HEAVY


def test_simulating_imports_no_torch():
    assert not loaded_after("import entrostat.sim.closed_loop") & (HEAVY - {"entrostat.sim"})


@pytest.mark.parametrize(
    ("package", "forbidden"), [("controller", HEAVY - {"torch"}), ("sim", HEAVY - {"torch", "entrostat.sim"})]
)
def test_arrows_between_packages_run_one_way(package, forbidden):
    for path in (ROOT / package).rglob("*.py"):
        hosts = {"transformers", "mlflow"} if "integrations" in path.parts else set()
        assert not set(imported_by(path)) & (forbidden - hosts), path


def test_a_host_is_imported_in_its_own_integration_only():
    for path in (ROOT / "controller").rglob("*.py"):
        imported = set(imported_by(path))
        assert not {host for host, room in HOSTS.items() if host in imported and room not in path.parts}, path


def test_every_public_name_can_be_had_from_the_package():
    assert set(entrostat.__all__) == set(entrostat._HOMES)
    for name in entrostat.__all__:
        assert getattr(entrostat, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = entrostat.nonsense


def members(package, kind):
    for name in modules(package):
        module = importlib.import_module(name)
        for label, value in vars(module).items():
            if kind(value) and getattr(value, "__module__", None) == name and not label.startswith("_"):
                yield f"{name}.{label}", value


PUBLIC = [*members("controller", inspect.isfunction), *members("sim", inspect.isfunction)]
CLASSES = [*members("controller", inspect.isclass), *members("sim", inspect.isclass)]
CONFIGS = [(name, value) for name, value in CLASSES if issubclass(value, Config)]


@pytest.mark.parametrize("name", [*modules("controller"), *modules("sim")])
def test_every_module_says_what_it_is_for(name):
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize(("name", "value"), PUBLIC + CLASSES, ids=[name for name, _ in PUBLIC + CLASSES])
def test_every_public_function_and_class_has_a_docstring(name, value):
    assert value.__doc__, name


@pytest.mark.parametrize(("name", "value"), CLASSES, ids=[name for name, _ in CLASSES])
def test_every_public_method_has_a_docstring(name, value):
    own = {label: member for label, member in vars(value).items() if not label.startswith("_")}
    documented = (property, staticmethod, classmethod)
    methods = {label: m for label, m in own.items() if inspect.isfunction(m) or isinstance(m, documented)}
    assert [label for label in methods if not inspect.getdoc(getattr(value, label))] == []


@pytest.mark.parametrize(("name", "value"), CONFIGS, ids=[name for name, _ in CONFIGS])
def test_every_field_of_a_configuration_says_what_it_means(name, value):
    assert [key for key in value.model_fields if key != "type" and not meanings(value)[key]] == []


def test_a_configuration_class_was_found():
    assert {"entrostat.loop.config.ControlConfig", "entrostat.laws.pid.PID", "entrostat.sim.plants.MomentumPlant"} <= {
        name for name, _ in CONFIGS
    }


@pytest.mark.parametrize("package", ["controller", "sim", "trainer", "benchmarks"])
def test_no_room_has_more_than_twelve_files_at_its_root(package):
    rooms = {path.parent for path in (ROOT / package).rglob("*.py")}
    files = {str(room.relative_to(ROOT)): len([*room.glob("*.py")]) for room in rooms}
    assert {room: count for room, count in files.items() if count > 12} == {}
