"""`entrostat watch`: a page that follows a run, for this machine only."""

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from entrostat.inputs.errors import InputError
from entrostat.trainer.commands.watch import watcher
from tests.browser import Watched
from tests.trainer.made_runs import lines, write_run


@pytest.fixture
def served(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("steps: 150\n")  # as a run leaves it before its first step
    server = watcher([folder])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, server.address
    server.shutdown()
    server.server_close()


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def append(folder: Path, step: int) -> None:
    line = lines(step + 1, controlled=True)[-1]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_a_new_step_is_on_the_page_within_two_seconds_and_leaves_the_page_as_it_was_set(browser, served) -> None:
    folder, url = served
    write_run(folder, config={"steps": 150, "control": {"target": {"type": "constant", "value": 0.8}}})
    (folder / "status.json").write_text('{"status": "RUNNING"}')
    opened = Watched(browser, url()).ready()
    page = opened.page
    page.locator("#log").check()
    page.locator("summary", has_text="What the columns mean").click()
    page.evaluate("window.heads = document.querySelector('thead')")
    for step in (60, 61):
        append(folder, step)
        opened.until(f"Bokeh.documents[0].get_model_by_name('steps 0').data.step.at(-1) == {step}", seconds=2)
    assert f">{62}<" in page.locator("#header").inner_html()
    assert "running, 62 of 150 steps done, 0:02:56 left" in page.locator("#words").inner_text()
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('ahead 0').data.step.at(-1)") == 149
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('step range').end") > 149
    assert page.locator("#log").is_checked()
    assert page.locator("details[open]", has_text="What the columns mean").count() == 1
    assert page.evaluate("window.heads.isConnected")
    opened.shot("watch")
    assert opened.complaints == []


def test_a_folder_without_a_run_is_refused_by_name(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"{folder} holds no run"):
            watcher([folder])


def test_before_the_first_step_the_page_waits_and_then_shows_the_run(browser, served) -> None:
    folder, url = served
    opened = Watched(browser, url())
    assert "Waiting" in opened.page.inner_text("body")
    write_run(folder, steps=2)
    opened.ready()


def test_a_kind_of_metric_that_comes_later_brings_a_new_panel(browser, served) -> None:
    folder, url = served
    write_run(folder)
    bare = [{k: v for k, v in line.items() if k != "actor/ppo_kl"} for line in lines(60, controlled=True)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bare))
    opened = Watched(browser, url()).ready()
    opened.page.locator("#smooth").fill("0.5")
    opened.page.locator("summary", has_text="What the columns mean").click()
    with opened.page.expect_navigation():
        append(folder, 60)
    opened.ready()
    assert opened.page.locator("h3", has_text="KL ").count() == 1
    assert opened.page.locator("#smooth").input_value() == "0.5"
    assert opened.page.locator("details[open]", has_text="What the columns mean").count() == 1


def test_what_is_known_is_not_sent_again(served) -> None:
    folder, url = served
    write_run(folder)
    with urllib.request.urlopen(url("/news"), timeout=20) as answer:
        tag = answer.headers["ETag"]
    assert get(url("/news"), **{"If-None-Match": tag}) == (304, "")
    append(folder, 60)
    assert get(url("/news"), **{"If-None-Match": tag})[0] == 200


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_other_sites_are_refused(served, header) -> None:
    assert get(served[1](), **header)[0] == 403


def test_who_does_not_know_the_token_gets_nothing(served) -> None:
    """Any user of the machine reaches its loopback."""
    folder, url = served
    write_run(folder)
    (bare, _, token), other = url("/news").partition("?token="), watcher([folder])
    other.server_close()
    for query in ("", "?token=", f"?token={token[:-1]}", f"?token={token}x", f"?token={other.token}", "?token=%FF"):
        for path in ("/news", "/", "/nowhere"):
            status, text = get(bare.removesuffix("/news") + path + query)
            assert (status, text) == (403, "open the address that the command has printed, to its end")
    assert get(url("/news"))[0] == 200
    assert len(token) >= 32


def test_a_log_that_cannot_be_read_is_one_sentence(served) -> None:
    folder, url = served
    write_run(folder)
    (folder / "metrics.jsonl").write_text('{"step": 0}\n{oops}\n{"step": 2}\n')
    assert get(url("/news")) == (400, get(url("/news"))[1])
    assert "line 2 of" in get(url("/news"))[1]
