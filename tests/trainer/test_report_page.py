"""The report in a real browser: it opens without a network, all of it is drawn, and all of it can be moved."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from entrostat.trainer.reporting import PANELS
from entrostat.trainer.reporting.drawing.page import write
from entrostat.trainer.reporting.rundata import load_runs
from entrostat.trainer.reporting.table import COLUMNS
from entrostat.trainer.reporting.write import write_report
from tests.browser import Watched
from tests.runs import ROOT
from tests.trainer.made_runs import write_run, write_sweep

DRAWN = """() => {
  const found = {}
  const look = view => {
    if (view.model.type == "Figure" && view.model.visible) found[view.model.name] = coloured(view)
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
MARKS = """run => [...Bokeh.documents[0]._all_models.values()].filter(
  mark => mark.type == "GlyphRenderer" && mark.tags.includes(run) && mark.visible)"""
SHOWN = f"run => ({MARKS})(run).length"
AIMED = f"run => ({MARKS})(run).filter(mark => /target|^low$/.test((mark.glyph.y1 ?? mark.glyph.y)?.field)).length"
STEPS = "name => [...Bokeh.documents[0].get_model_by_name('steps 1').data[name]]"
RANGE = "(r => [r.start, r.end])(Bokeh.documents[0].get_model_by_name('step range'))"
OUTSIDE = """() => [...document.querySelectorAll("th, td, .card, .key span, label, dd")].filter(part => {
  const box = part.getBoundingClientRect()
  return box.width && (box.left < 0 || box.right > innerWidth + 1)
}).map(part => part.outerHTML.slice(0, 80))"""
"""What a reader would have to scroll sideways for."""
BROKEN = """() => [...document.querySelectorAll(".parameters tbody th, #at")].filter(part => {
  const words = document.createRange()
  words.selectNodeContents(part)
  return words.getClientRects().length > 1
}).map(part => part.textContent)"""
"""What takes more than one line."""
BANDS = """([...Bokeh.documents[0]._all_models.values()].filter(mark => mark.type == "GlyphRenderer" && mark.visible
  && mark.glyph.type == "VArea" && mark.glyph.y1.field == "reward/mean low"))"""
SHADED = """() => {
  const {canvas_view: {primary: {ctx, canvas}}} = views().find(view => view.model.name == "Reward")
  const {data} = ctx.getImageData(0, 0, canvas.width, canvas.height)
  return data.filter((value, i) => i % 4 == 3 && value > 20 && value < 235).length
}"""
"""Pixels that one sees through: of bands, and of the edges of lines, which are few."""
STALE = """name => {
  const view = views().find(view => view.model.name == name), {ctx, canvas} = view.canvas_view.primary
  ctx.fillStyle = "red"
  ctx.fillRect(0, 0, 1, canvas.height)
  ctx.fillRect(0, 0, canvas.width, 1)
  view.request_repaint()
}"""
HOVERED = """() => overSteps().filter(view => view.model.visible && view.el.offsetWidth).flatMap(view => {
  view.el.scrollIntoView({block: "center"})
  const others = views().filter(other => other != view && other.model.visible && other.el.offsetWidth).map(framed)
  const {left, top, right, bottom} = framed(view)
  return [0.05, 0.5, 0.95].map(share => {
    hover({clientX: left + share * (right - left), clientY: (top + bottom) / 2})
    const box = byId("hover").getBoundingClientRect()
    const covered = others.filter(other => box.left < other.right && other.left < box.right
      && box.top < other.bottom && other.top < box.bottom).length
    const beside = box.left < 0 || box.right > innerWidth || box.top < 0 || box.bottom > innerHeight
    return [view.model.name, share, box.width > 0, covered, beside]
  })
})"""
"""For three places of the pointer in each plot: whether the box is shown, how many other plots it covers, whether it
leaves the screen."""


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


def test_a_switch_hides_a_run_in_every_panel_with_its_target_and_shows_it_again(opened: Watched) -> None:
    box, page = opened.page.locator("label", has_text="held").locator("[data-run]"), opened.page
    shown = page.evaluate(SHOWN, 1)
    assert (shown > 20, page.evaluate(AIMED, 1)) == (True, 7)
    box.uncheck()
    assert (page.evaluate(SHOWN, 1), page.evaluate(AIMED, 1)) == (0, 0)
    assert page.locator(".card h3", has_text="What makes up the command").is_hidden()
    box.check()
    assert page.evaluate(SHOWN, 1) == shown


def test_what_stays_in_the_first_pixels_of_a_canvas_is_not_seen(opened: Watched) -> None:
    plot = opened.page.locator(".card", has_text="Entropy bonus in the loss").locator(".plot")
    opened.page.evaluate(STALE, "Entropy bonus in the loss")
    opened.page.wait_for_timeout(500)
    seen = imread(BytesIO(plot.screenshot()))[:, :, :3]
    for edge in (seen[:, :3], seen[:3]):
        np.testing.assert_allclose(edge, np.ones_like(edge), atol=0.02)


def test_the_slider_moves_the_map_the_answers_and_the_line_in_the_plots(opened: Watched) -> None:
    page = opened.page
    page.select_option("#run", label="held")
    seen = []
    for place in ("0", "2"):
        page.locator("#step").fill(place)
        line = page.evaluate("Bokeh.documents[0].get_model_by_name('chosen step').location")
        seen.append((page.locator("#at").text_content(), line, page.locator("#answers").inner_text()))
    assert [(at, line) for at, line, _ in seen] == [("step 0", 0), ("step 40", 40)]
    assert seen[0][2] != seen[1][2]


def test_an_answer_says_what_is_what(opened: Watched) -> None:
    terms = opened.page.locator(".answer").first.locator("dt").all_text_contents()
    assert terms == ["prompt", "answer", "reward", "advantage A"]


def test_tokens_of_answers_show_region_and_cut(opened: Watched) -> None:
    assert opened.page.locator("#answers .token.e1.cut").count() > 0
    assert opened.page.locator("#answers .token.e2:not(.cut)").count() > 0


def test_the_log_axis_takes_the_place_of_the_linear_one(opened: Watched) -> None:
    opened.page.locator("#log").check()
    state = "['log', 'linear'].map(name => Bokeh.documents[0].get_model_by_name(name).visible)"
    assert opened.page.evaluate(state) == [True, False]
    opened.page.locator("#log").uncheck()


def test_the_range_of_steps_is_that_of_all_plots_and_comes_back(opened: Watched) -> None:
    page = opened.page
    whole = page.evaluate(RANGE)
    page.locator("#first").fill("10")
    page.locator("#last").fill("20")
    page.keyboard.press("Enter")
    assert page.evaluate(RANGE) == [10, 20]
    page.locator("#whole").click()
    assert page.evaluate(RANGE) == whole


def test_smoothing_calms_the_lines_and_leaves_what_was_logged_behind_them(opened: Watched) -> None:
    page, before = opened.page, opened.page.evaluate(STEPS, "actor/entropy")
    page.locator("#smooth").fill("0.9")
    calm, rough = page.evaluate(STEPS, "actor/entropy"), page.evaluate(STEPS, "rough actor/entropy")
    assert (rough == before, calm[0] == pytest.approx(before[0]), max(calm) < max(before)) == (True, True, True)
    assert page.evaluate(STEPS, "target") == [pytest.approx(0.8)] * 60
    page.locator("#smooth").fill("0")
    assert page.evaluate(STEPS, "actor/entropy") == before


@pytest.mark.parametrize(("axis", "end"), [("minutes", 60 * 0.1 / 60), ("tokens", 60 * 6 * 8 * 4)])
def test_the_axis_is_in_steps_minutes_or_tokens(opened: Watched, axis: str, end: float) -> None:
    opened.page.select_option("#axis", axis)
    assert opened.page.evaluate(RANGE)[1] == pytest.approx(end, rel=0.03)
    opened.page.select_option("#axis", "step")
    assert opened.page.evaluate(RANGE)[1] == pytest.approx(59.6, abs=0.1)


def test_one_box_beside_the_plot_has_the_values_of_all_runs(opened: Watched) -> None:
    opened.page.set_viewport_size({"width": 1400, "height": 1000})
    plot = opened.page.locator(".bk-Figure").first
    plot.scroll_into_view_if_needed()
    opened.page.wait_for_timeout(500)  # a scroll that is told late would hide the box
    frame = opened.page.evaluate("framed(overSteps().find(view => view.model.name == 'linear'))")
    opened.page.mouse.move((frame["left"] + frame["right"]) / 2, (frame["top"] + frame["bottom"]) / 2)
    box = opened.page.locator("#hover")
    opened.shot("hover")
    text, place = box.inner_text(), box.bounding_box()
    assert all(word in text for word in ("step ", "entropy", "static", "held", "target", "0.8"))
    assert place["y"] >= frame["bottom"] or place["y"] + place["height"] <= frame["top"]
    opened.page.mouse.move(1, 1)
    assert not box.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 400])
def test_nothing_lies_beside_the_screen(opened: Watched, width: int, scheme: str) -> None:
    page = opened.page
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)
    page.wait_for_timeout(300)
    opened.shot(f"report-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.locator("#figures tr").first.locator("td:visible").count() == len(COLUMNS)
    light = sum(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    assert (light < 150) == (scheme == "dark")
    page.emulate_media(color_scheme="light")


def test_paper_has_every_plot_whole(opened: Watched, tmp_path: Path) -> None:
    opened.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 700, "height": 1000})
    images = opened.page.locator(".card:not([hidden]) > .printed")
    plots = len(PANELS) + len(["terms", "region map", "authority curve"])
    seen = images.evaluate_all(
        "all => all.filter(one => one.complete && one.naturalWidth > 100 && one.width > 200).length"
    )
    drawn = (tmp_path / "report.pdf").read_bytes().count(b"/Subtype /Image")
    assert (seen, drawn >= plots, opened.page.evaluate(OUTSIDE)) == (plots, True, [])
    opened.page.emulate_media(media="screen")
    opened.page.set_viewport_size({"width": 1400, "height": 1000})


def test_the_keyboard_reaches_every_control(opened: Watched) -> None:
    opened.page.evaluate("document.activeElement.blur()")
    reached = opened.reachable(keys=80)
    assert {"smooth", "axis", "log", "first", "last", "whole", "run", "step"} <= reached
    boxes = "[...document.querySelectorAll('[data-run], summary')].every(e => e.tabIndex == 0)"
    assert opened.page.evaluate(boxes)
    opened.page.locator("#step").focus()
    opened.page.keyboard.press("Home")
    assert opened.page.locator("#at").text_content() == "step 0"


@pytest.fixture(scope="module")
def demo(browser, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The page that the demo leaves: of real runs, the first without an authority curve."""
    page = tmp_path_factory.mktemp("demo") / "report.html"
    write(load_runs([ROOT / "docs" / "data" / name for name in ("static", "controlled")]), page)
    return Watched(browser, page.as_uri()).drawn()


def test_the_page_of_the_demo_opens_without_complaints(demo: Watched) -> None:
    demo.page.wait_for_timeout(500)
    assert demo.complaints == []


def test_the_axes_of_the_authority_curve_hold_all_steps_of_a_run(demo: Watched) -> None:
    card = demo.page.locator(".card", has_text="Authority: the change of entropy")
    assert card.is_hidden()
    demo.page.select_option("#run", label="controlled")
    assert card.is_visible()
    low, high = demo.page.evaluate("(({start, end}) => [start, end])(named('authority y'))")
    changes = demo.page.evaluate("snapshots[1].flatMap(one => one.authority.change)")
    assert (low, high) == pytest.approx((min(changes), max(changes)), abs=0.03 * (max(changes) - min(changes)))


@pytest.mark.parametrize("width", [1400, 1200, 400])
def test_no_name_of_a_parameter_and_no_step_is_broken(demo: Watched, width: int) -> None:
    demo.page.set_viewport_size({"width": width, "height": 1000})
    demo.page.wait_for_timeout(300)
    assert demo.page.evaluate(BROKEN) == []
    assert demo.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module", params=[6, 8])
def many(
    request: pytest.FixtureRequest, browser, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path, Watched]:
    """The page of six configurations with five seeds each, or of eight with two."""
    rates, seeds = ((1e-4, 3e-4, 1e-3), 5) if request.param == 6 else ((1e-4, 3e-4, 1e-3, 3e-3), 2)
    folder = tmp_path_factory.mktemp("many")
    write_report(load_runs([write_sweep(folder / "sweep", rates, seeds)]), folder)
    return request.param, folder / "report.html", Watched(browser, (folder / "report.html").as_uri()).drawn()


def test_a_sweep_is_an_entry_and_a_visible_band_a_configuration(many: tuple[int, Path, Watched]) -> None:
    count, _, opened = many
    assert opened.page.locator("#runs label").count() == count
    assert opened.page.evaluate(f"{BANDS}.map(band => band.tags[0])") == list(range(count))
    assert opened.page.evaluate(SHADED) > 3000


def test_a_sweep_opens_without_complaints_or_requests_and_lies_within_the_screen(
    many: tuple[int, Path, Watched],
) -> None:
    count, path, opened = many
    for width in (400, 1400):
        opened.page.set_viewport_size({"width": width, "height": 1000})
        opened.page.wait_for_timeout(300)
        opened.shot(f"report-of-{count}-{width}")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.page.evaluate(OUTSIDE) == []
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


@pytest.mark.parametrize("width", [1400, 400])
def test_the_box_of_values_covers_no_other_plot(many: tuple[int, Path, Watched], width: int) -> None:
    page = many[2].page
    page.set_viewport_size({"width": width, "height": 1000})
    page.wait_for_timeout(300)
    found = page.evaluate(HOVERED)
    assert len(found) > 3 * len(PANELS)
    assert [place for place in found if place[2:] != [True, 0, False]] == []
    page.mouse.move(1, 1)
