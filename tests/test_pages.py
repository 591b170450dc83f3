"""What README and docs say, against the code: the demo, names of commands, files, extras, columns and metrics."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from entrostat.trainer.commands.doctor import EXTRAS
from entrostat.trainer.config import load_config
from entrostat.trainer.reporting import PANELS
from entrostat.trainer.reporting.drawing.figure import draw
from entrostat.trainer.reporting.rundata import load_run, load_runs
from entrostat.trainer.reporting.story import story
from entrostat.trainer.reporting.table import COLUMNS
from tests.readers import help_options
from tests.runs import ROOT

DOCS, EXAMPLES = ROOT / "docs", ROOT / "examples"
MAKEFILE = (ROOT / "Makefile").read_text()
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *EXAMPLES.rglob("*.md")]
FOLDERS = "tests|benchmarks|examples|docs|controller|sim|trainer|constraints"


def test_the_first_screen_of_the_readme_is_picture_commands_trl_and_loop_in_this_order() -> None:
    text = (ROOT / "README.md").read_text()
    order = ["in TRL (one argument)", "docs/images/demo.png", "The gain:", "The price:", "make demo", "git clone"]
    order += ["Python 3.11", "GB of disk", "Apache-2.0", "## In TRL", "## In your own loop", "## How it works"]
    places = [text.index(part) for part in [*order, "## Results", "**Measured on**", "## More"]]
    assert places == sorted(places)
    assert len(text.splitlines()) <= 110
    assert [line for line in text.splitlines() if len(line) > 120] == []


def test_what_a_reader_copies_first_has_the_law_without_gains() -> None:
    first = [ROOT / "README.md", *(DOCS / name for name in ("index.md", "tutorial.md", "integrations.md"))]
    first += [DOCS / "how-to" / "own-loop.md", *EXAMPLES.glob("control*.yaml"), *EXAMPLES.glob("*.py")]
    assert [page.name for page in first if re.search(r"\bk[pi]: |type: pid|\bkp=", page.read_text())] == []


def test_the_version_to_cite_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == project["version"]


@pytest.mark.parametrize("name", ["static", "controlled"])
def test_the_pictures_are_of_the_runs_that_the_demo_makes(name: str) -> None:
    untold = {"tracking", "hardware"}
    asked = load_config(EXAMPLES / f"{name}.yaml").model_dump(exclude=untold)
    assert load_config(DOCS / "data" / name / "config.yaml").model_dump(exclude=untold) == asked


def test_the_picture_of_the_demo_is_what_its_data_draws(tmp_path: Path) -> None:
    draw(load_runs([DOCS / "data" / name for name in ("static", "controlled")]), tmp_path / "demo.png")
    fresh, shown = imread(tmp_path / "demo.png"), imread(DOCS / "images" / "demo.png")
    assert fresh.shape == shown.shape
    assert (np.abs(fresh - shown).max(-1) > 0.1).mean() < 0.002  # another version may draw letters otherwise


def test_the_demo_meets_its_target_to_the_end_and_says_of_both_runs_what_happened() -> None:
    static, controlled = (story(load_run(DOCS / "data" / name)) for name in ("static", "controlled"))
    assert controlled == "stayed within 5 % of its target (+ 2 standard errors) from step 20 to the end"
    assert re.match("follows no target, .*: below half of its start from step 25, .*; a `control` with", static)


def test_the_page_on_the_report_explains_every_column_plot_and_line_of_the_terminal() -> None:
    text = (DOCS / "how-to" / "read-the-report.md").read_text()
    cells = {part for row in re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE) for part in row.split(", ")}
    titles = {re.split(r":| \(", panel.title)[0] for panel in PANELS.values()}
    terminal = {"entropy", "command", "bonus", "thresholds", "reward"}
    assert ({column.head for column in COLUMNS} | titles | terminal) - cells == set()


def test_every_metric_that_a_run_logs_is_explained() -> None:
    text = (DOCS / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    named = {name for row in rows for cell in re.findall(r"`([^`]+)`", row) for name in spelled(cell)}
    logged = {name for run in ("static", "controlled") for name in load_run(DOCS / "data" / run).columns}
    assert logged - named == {"step"}


def spelled(text: str) -> list[str]:
    """The names that `{a,b}/c` stands for."""
    if not (group := re.search(r"\{([^}]*)\}", text)):
        return [text]
    before, after = text[: group.start()], text[group.end() :]
    return [name for part in group[1].split(",") for name in spelled(before + part + after)]


def test_every_command_and_file_that_a_page_names_exists() -> None:
    spans = [(page, " ".join(span.split())) for page in PAGES for span in re.findall(r"`([^`]+)`", page.read_text())]
    assert [f"{page.relative_to(ROOT)}: {span}" for page, span in spans if not exists(span)] == []


def exists(span: str) -> bool:
    """Whether a command of ours, a target of make, a module or a file is there; anything else is."""
    first, second, *rest = [*span.split(), "", ""]
    if first == "entrostat" and second.isalpha() and second.islower():
        flags = {word.partition("=")[0] for word in rest if word.startswith("--")} - {"--help"}
        return second in help_options() and flags <= help_options()[second]
    if first == "make" and second:
        return bool(re.search(rf"^([\w-]+ )*{second.split('-')[0]}(-%)?( [\w-]+)*:", MAKEFILE, re.MULTILINE))
    if first == "python" and second == "-m":
        place = ROOT / rest[0].replace(".", "/")
        return not rest[0].startswith(("benchmarks.", "tests.")) or place.is_dir() or place.with_suffix(".py").exists()
    ours = re.fullmatch(rf"({FOLDERS})/\S+\.(py|yaml|md|txt)", first)
    return not ours or (ROOT / first).exists()


def test_extras_are_installed_from_the_clone_and_exist() -> None:
    lines = [line for page in PAGES for line in re.findall(r"pip install .*", page.read_text())]
    assert [line for line in lines if re.search(r"install '?entrostat\b", line)] == []
    named = {extra for line in lines for group in re.findall(r"\.\[([a-z0-9,]+)\]", line) for extra in group.split(",")}
    assert named
    assert named <= set(EXTRAS)
