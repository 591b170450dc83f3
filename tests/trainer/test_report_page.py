"""The report in a real browser: it opens without a network, all of it is drawn, and all of it can be moved."""

from pathlib import Path

import pytest

from entrostat.trainer.reporting import PANELS
from entrostat.trainer.reporting.page import write
from entrostat.trainer.reporting.rundata import load_runs
from tests.browser import Watched
from tests.trainer.made_runs import write_run

DRAWN = """() => {
  const found = {}
  const look = view => {
    if (view.model.type == "Figure" && view.model.visible) found[view.model.title.text] = coloured(view)
    for (const child of view.child_views ?? []) look(child)
  }
  const coloured = view => {
    const layer = view.canvas_view.primary
    const {data} = layer.ctx.getImageData(0, 0, layer.canvas.width, layer.canvas.height)
    let count = 0
    for (let i = 0; i < data.length; i += 12) {
      const ink = Array.from(data.slice(i, i + 3))
      if (data[i + 3] > 30 && Math.max(...ink) - Math.min(...ink) > 40) count++
    }
    return count
  }
  for (const view of Bokeh.index) look(view)
  return found
}"""
"""Pixels in colour of every plot: axes and grids are grey, marks are not."""
VISIBLE = "ids => ids.split(' ').filter(id => Bokeh.documents[0].get_model_by_id(id).visible).length"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(load_runs([write_run(folder / "static", controlled=False), write_run(folder / "held")]), folder / "r.html")
    return folder / "r.html"


@pytest.fixture(scope="module")
def opened(browser, report: Path) -> Watched:
    return Watched(browser, report.as_uri()).drawn()


def test_it_opens_from_disk_without_complaints_or_requests(opened: Watched, report: Path) -> None:
    opened.page.wait_for_timeout(500)
    opened.shot("report")
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]


def test_every_panel_has_marks(opened: Watched) -> None:
    found = opened.page.evaluate(DRAWN)
    assert len(found) == len(PANELS) + len(["terms", "region map", "authority curve"])
    assert {title: count for title, count in found.items() if count < 30} == {}


def test_a_switch_hides_a_run_in_every_panel_and_shows_it_again(opened: Watched) -> None:
    box = opened.page.locator("label", has_text="static").locator("[data-marks]")
    marks = box.get_attribute("data-marks")
    shown = opened.page.evaluate(VISIBLE, marks)
    box.uncheck()
    assert (shown > 20, opened.page.evaluate(VISIBLE, marks)) == (True, 0)
    box.check()
    assert opened.page.evaluate(VISIBLE, marks) == shown


def test_the_slider_moves_the_map_the_answers_and_the_line_in_the_plots(opened: Watched) -> None:
    page = opened.page
    page.select_option("#run", label="held")
    seen = []
    for place in ("0", "2"):
        page.locator("#step").fill(place)
        line = page.evaluate("Bokeh.documents[0].get_model_by_name('chosen step').location")
        seen.append((page.locator("#at").text_content(), line, page.locator("#answers").inner_text()))
    assert [(at, line) for at, line, _ in seen] == [("0", 0), ("40", 40)]
    assert seen[0][2] != seen[1][2]


def test_tokens_of_answers_show_region_and_cut(opened: Watched) -> None:
    assert opened.page.locator("#answers .token.e1.cut").count() > 0
    assert opened.page.locator("#answers .token.e2:not(.cut)").count() > 0


def test_the_log_axis_takes_the_place_of_the_linear_one(opened: Watched) -> None:
    opened.page.locator("#log").check()
    state = "['log', 'linear'].map(name => Bokeh.documents[0].get_model_by_name(name).visible)"
    assert opened.page.evaluate(state) == [True, False]
    opened.page.locator("#log").uncheck()


def test_the_range_of_steps_is_that_of_all_plots_and_comes_back(opened: Watched) -> None:
    page, ends = opened.page, "(r => [r.start, r.end])(Bokeh.documents[0].get_model_by_name('step range'))"
    whole = page.evaluate(ends)
    page.locator("#first").fill("10")
    page.locator("#last").fill("20")
    page.keyboard.press("Enter")
    assert page.evaluate(ends) == [10, 20]
    page.locator("#whole").click()
    assert page.evaluate(ends) == whole


def test_hovering_shows_the_values_of_a_step(opened: Watched) -> None:
    plot = opened.page.locator(".bk-Figure").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    for shift in (0, 5):
        opened.page.mouse.move(box["x"] + box["width"] / 2 + shift, box["y"] + box["height"] / 2)
    tip = opened.page.locator(".bk-Tooltip").last
    tip.wait_for()
    assert "entropy:" in tip.evaluate("tip => tip.shadowRoot.textContent")


def test_the_keyboard_reaches_every_control(browser, report: Path) -> None:
    opened = Watched(browser, report.as_uri()).drawn()
    reached = opened.reachable(keys=80)
    assert {"log", "first", "last", "whole", "run", "step"} <= reached
    boxes = "[...document.querySelectorAll('[data-marks], summary')].every(e => e.tabIndex == 0)"
    assert opened.page.evaluate(boxes)
    opened.page.locator("#step").focus()
    opened.page.keyboard.press("Home")
    assert opened.page.locator("#at").text_content() == "0"
    opened.page.close()
