"""`entrostat watch`: a page that follows a run, for this machine only."""

import json
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from entrostat.trainer.commands.watch import watcher
from tests.browser import Watched
from tests.trainer.made_runs import lines, write_run


@pytest.fixture
def served(tmp_path: Path):
    folder = tmp_path / "run"
    server = watcher([folder])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
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
    write_run(folder)
    opened = Watched(browser, url).ready()
    opened.page.locator("#log").check()
    for step in (60, 61):
        append(folder, step)
        opened.until(f"Bokeh.documents[0].get_model_by_name('steps 0').data.step.at(-1) == {step}", seconds=2)
    assert f">{62}<" in opened.page.locator("#header").inner_html()
    assert opened.page.locator("#log").is_checked()
    opened.shot("watch")
    assert opened.complaints == []


def test_before_the_first_step_the_page_waits_and_then_shows_the_run(browser, served) -> None:
    folder, url = served
    opened = Watched(browser, url)
    assert "Waiting" in opened.page.inner_text("body")
    write_run(folder, steps=2)
    opened.ready()


def test_a_kind_of_metric_that_comes_later_brings_a_new_panel(browser, served) -> None:
    folder, url = served
    write_run(folder)
    bare = [{k: v for k, v in line.items() if k != "actor/ppo_kl"} for line in lines(60, controlled=True)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bare))
    opened = Watched(browser, url).ready()
    with opened.page.expect_navigation():
        append(folder, 60)
    opened.ready()
    assert opened.page.evaluate("[...Bokeh.documents[0].all_models].some(m => m.title?.text?.startsWith('KL '))")


def test_what_is_known_is_not_sent_again(served) -> None:
    folder, url = served
    write_run(folder)
    with urllib.request.urlopen(f"{url}/news", timeout=20) as answer:
        tag = answer.headers["ETag"]
    assert get(f"{url}/news", **{"If-None-Match": tag}) == (304, "")
    append(folder, 60)
    assert get(f"{url}/news", **{"If-None-Match": tag})[0] == 200


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_other_sites_are_refused(served, header) -> None:
    assert get(served[1], **header)[0] == 403


def test_a_log_that_cannot_be_read_is_one_sentence(served) -> None:
    folder, url = served
    write_run(folder)
    (folder / "metrics.jsonl").write_text('{"step": 0}\n{oops}\n{"step": 2}\n')
    assert get(f"{url}/news") == (400, get(f"{url}/news")[1])
    assert "line 2 of" in get(f"{url}/news")[1]
