"""The documentation: it builds without a warning, names everything public, and its examples run as they stand."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from entrostat.inputs.configuration import parse
from entrostat.loop.config import ControlConfig
from entrostat.trainer.cli import parsed
from entrostat.trainer.config import RunConfig
from tests.browser import Watched
from tests.readers import help_examples, prepare, run
from tests.runs import ENVIRONMENT, ROOT, entrostat, interrupted
from tests.trainer.suites import small

DOCS = ROOT / "docs"
PAGES = [
    DOCS / "tutorial.md",
    DOCS / "how-to" / "identify.md",
    DOCS / "how-to" / "tune.md",
    DOCS / "how-to" / "choose-a-target.md",
    DOCS / "how-to" / "choose-an-actuator.md",
    DOCS / "how-to" / "curve.md",
    DOCS / "how-to" / "own-loop.md",
    DOCS / "how-to" / "read-the-report.md",
    DOCS / "how-to" / "tracking.md",
    DOCS / "how-to" / "saturation.md",
    DOCS / "how-to" / "real-model.md",
    DOCS / "how-to" / "eight-gpus.md",
    DOCS / "how-to" / "measurement.md",
    DOCS / "how-to" / "adaptive.md",
    DOCS / "how-to" / "extend.md",
    DOCS / "how-to" / "ppo.md",
    DOCS / "integrations.md",
    DOCS / "index.md",
    DOCS / "control-theory.md",
    ROOT / "README.md",
]
"""In the order of a reader, since a page may use what an earlier one has made."""


def logged() -> str:
    """A log of another trainer: entropy that follows an upper threshold, in stretches of seven steps."""
    rows = ((k, k // 7 % 2, (k * 7919) % 13 - 6) for k in range(120))
    lines = (f"{k},{0.9 + 0.1 * up - 0.002 * k + noise / 600:.4f},0.2,{0.28 if up else 0.2}" for k, up, noise in rows)
    return "\n".join(["step,entropy,eps_low,eps_high", *lines]) + "\n"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the comment on the line above it."""

    language: str
    text: str
    note: str


def blocks(page: Path, language: str) -> list[Block]:
    found = re.findall(r"(?:<!-- ([^>]*) -->\n)?^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(kind, text, note) for note, kind, text in found if kind == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's copy of the repository."""
    here = tmp_path_factory.mktemp("reader")
    prepare(here)
    (here / "logs.csv").write_text(logged())
    shutil.copytree(DOCS / "data", here / "runs" / "demo")  # what `make demo` leaves
    return here


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Commands that an earlier page has run already."""
    return set()


def write_named(page: Path, folder: Path) -> None:
    """The blocks whose first line is the name of a file, `# NAME.yaml` or `# NAME.py`."""
    for block in [*blocks(page, "yaml"), *blocks(page, "python")]:
        if named := re.match(r"# (\S+\.(?:yaml|py))\n", block.text):
            (folder / named[1]).write_text(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_stand(page: Path, folder: Path, done: set[str]) -> None:
    write_named(page, folder)
    for block in blocks(page, "bash"):
        for command in commands(block):
            if block.note.startswith("not run"):
                check_words(command)
            elif command not in done:
                done.add(command)
                code, output = run(command, folder)
                assert code == 0, f"{command}\n{output[-2000:]}"


FEWER = {"regions": ["--seeds", "0"], "compare": [], "search": ["--runs", "2"]}
"""Commands that train many runs, and what is added to their examples to train fewer."""


@pytest.mark.parametrize("name", [name for name in help_examples() if name not in FEWER.keys() | {"watch"}])
def test_the_example_of_a_help_runs_as_it_stands(name: str, folder: Path, done: set[str]) -> None:
    """After the pages, whose runs and plants the examples name; what a page ran already is not run again."""
    command = help_examples()[name]
    if command not in done:
        code, output = run(command, folder)
        assert code == 0, f"{command}\n{output[-2000:]}"


@pytest.mark.parametrize("name", FEWER)
def test_the_example_of_a_help_that_trains_many_runs_does_so_where_its_file_is_a_small_one(
    name: str, tmp_path: Path
) -> None:
    suite = small(seeds=[41], targets={"low": {"type": "constant", "value": 0.5}})
    (tmp_path / "examples").mkdir()
    for file, content in {"compare": suite, "regions": suite["run"], "static": suite["run"]}.items():
        (tmp_path / f"examples/{file}.yaml").write_text(yaml.safe_dump(content))
    done = entrostat(*shlex.split(help_examples()[name])[1:], *FEWER[name], folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_example_of_watch_serves_until_it_is_interrupted(folder: Path) -> None:
    code, _, said = interrupted(shlex.split(help_examples()["watch"])[1:], "http://", folder)
    assert (code, said) == (0, "")


def commands(block: Block) -> list[str]:
    """A line each, comments left out; a here-document stays whole."""
    text = re.sub(r"\s+#(?![!{]).*$", "", block.text, flags=re.MULTILINE)
    return re.findall(r"(?s:^cat > .*?^END$)|^[^#\s].*$", text, re.MULTILINE)


def check_words(command: str) -> None:
    """A command of ours that is not run must at least be one that the command line takes."""
    name, *words = command.split()
    if name == "entrostat":
        parsed(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_named(page, tmp_path)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, 11, generator=generator, requires_grad=True)
    given = {
        "logits": logits,
        "new_logits": logits,
        "optimizer": torch.optim.AdamW([logits]),
        "logprob": logits.log_softmax(-1)[..., 0],
        "actions": torch.randint(0, 11, (8, 5), generator=generator),
        "mask": torch.ones(8, 5, dtype=torch.bool),
        "advantages": torch.tensor([1.0, -1.0] * 4),
        "groups": torch.arange(4).repeat_interleave(2),
    }
    for block in blocks(page, "python"):
        exec(compile(block.text, str(page), "exec"), given)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_configurations_of_a_page_are_accepted(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_named(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block.text)
        parse(RunConfig if {"control", "task"} & set(content) else ControlConfig, content, source=page.name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "-d", str(out)]
    environment = ENVIRONMENT | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(["make", "--silent", "links"], cwd=ROOT, check=True)
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return out


def test_the_site_builds_without_warnings_and_asks_nobody_outside(site: Path) -> None:
    assert (site / "index.html").exists()
    pages = [page.read_text() for page in site.rglob("*.html")]
    outside = [
        url for page in pages for url in re.findall(r'(?:src|<link[^>]+stylesheet[^>]+href)="(https?://[^"]+)', page)
    ]
    assert outside == []


def test_the_search_finds_a_page_of_a_site_opened_from_disk(site: Path, browser) -> None:
    seen = Watched(browser, (site / "how-to" / "tune.html").as_uri())
    seen.page.get_by_role("textbox", name="Search").fill("saturates")
    seen.page.locator(".md-search-result__link", has_text="When the command saturates").first.click()
    seen.page.locator("h1", has_text="When the command saturates").wait_for()
    assert seen.complaints == []


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    missing = [name for name in importlib.import_module("entrostat").__all__ if name not in text]
    assert missing == []


def test_the_pages_that_are_made_from_the_code_are_committed_as_they_are_made() -> None:
    from docs.site.hooks import pages

    assert {str(path): path.read_text() for path in pages(DOCS)} == {str(k): v for k, v in pages(DOCS).items()}


def test_no_link_of_a_page_is_dead_in_the_repository() -> None:
    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert dead == []


def test_every_key_of_a_configuration_says_what_it_means() -> None:
    from docs.site.hooks import meanings, settled
    from entrostat.inputs.configuration import inside

    models = [RunConfig, *settled()]
    bare = [
        f"{model.__name__}.{key}"
        for model in models
        for key, info in model.model_fields.items()
        if key != "type" and not meanings(model)[key] and not inside(info.annotation)
    ]
    assert bare == []
    assert all(model.__doc__ for model in models)


def test_every_part_of_a_configuration_has_a_heading_of_its_own() -> None:
    from docs.site.hooks import settled

    places = list(settled().values())
    assert len(places) > 40
    assert len(set(places)) == len(places)


def test_no_row_of_a_table_is_broken_by_what_stands_in_it() -> None:
    lines = [line for page in (DOCS / "reference").rglob("*.md") for line in page.read_text().splitlines()]
    assert [line for line in lines if line.startswith("| ") and not line.endswith("|")] == []


def test_every_page_of_docs_is_looked_through_for_examples() -> None:
    with_code = {
        page for page in DOCS.rglob("*.md") if re.search(r"^```(bash|python|yaml)$", page.read_text(), re.MULTILINE)
    }
    assert {page for page in with_code if "results" not in page.parts} <= set(PAGES)
