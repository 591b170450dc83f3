"""`entrostat target --edit`: a curve drawn on a page is saved, and loads."""

import json
import shlex
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from entrostat.inputs.errors import InputError
from entrostat.sim.feasibility import envelope, reach
from entrostat.sim.plants import MomentumPlant
from entrostat.targets import Cosine, Table
from entrostat.trainer.cli import parsed
from entrostat.trainer.commands.pages.designer import Design, check, design, designer, points_of
from entrostat.trainer.commands.plant.target import read_target
from entrostat.trainer.config import load_config
from tests.browser import Watched
from tests.runs import ROOT

PLANT = MomentumPlant(gain=0.02, lag=0.4)
POINTS = "[...Bokeh.documents[0].get_model_by_name('points').data.step]"
FLAT = [(0.0, 0.8), (50.0, 0.8), (99.0, 0.8)]


@pytest.fixture
def serve(tmp_path: Path):
    servers = []

    def start(name: str = "curve.yaml", points=FLAT, **kwargs) -> tuple[str, Path]:
        out = tmp_path / name
        server = designer(Design(points, 100, out, [PLANT], **kwargs))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.address, out

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def post(url: str, content: object) -> tuple[int, str]:
    request = urllib.request.Request(url, data=json.dumps(content).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def drag(opened: Watched, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag in the plot's own coordinates: step and nats."""
    place = """([x, y]) => {
      const view = Bokeh.index.roots[0], box = view.canvas_view.el.getBoundingClientRect()
      return [box.x + view.frame.x_scale.compute(x), box.y + view.frame.y_scale.compute(y)]
    }"""
    mouse, (x0, y0), (x1, y1) = opened.page.mouse, *(opened.page.evaluate(place, [*point]) for point in (start, end))
    mouse.move(x0, y0)
    mouse.down()
    for part in np.linspace(0, 1, 12):
        mouse.move(x0 + part * (x1 - x0), y0 + part * (y1 - y0))
    mouse.up()


def test_a_dragged_curve_is_saved_and_loads(browser, serve, capsys) -> None:
    url, out = serve()
    opened = Watched(browser, url()).ready()
    steep = opened.page.locator(".key span", has_text="cannot follow")
    steep.wait_for(state="hidden")
    drag(opened, (50, 0.8), (90, 1.1))
    opened.until("document.getElementById('says').textContent.includes('cannot follow the target at steps 9')")
    opened.until(f"Number.isInteger({POINTS}[1]) && {POINTS}[1] > 80")  # at rest on a whole step
    steep.wait_for(state="visible")
    opened.page.locator("#save").click()
    opened.until("document.getElementById('saved').value.startsWith('saved')")
    assert opened.page.locator("#next").inner_text() == f"entrostat train CONFIG control.target={out} --out runs/drawn"
    assert f"next: entrostat train CONFIG control.target={out}" in capsys.readouterr().out
    opened.shot("designer")
    saved = read_target(out)
    assert isinstance(saved, Table)
    (_, bend, _), values = saved.points, saved.at([0, 90, 99])
    assert bend == pytest.approx((90, 1.1), abs=1.5)
    assert values == pytest.approx([0.8, 1.1, 0.8], abs=0.05)
    assert opened.complaints == []


def test_a_point_typed_in_the_table_moves_the_curve(browser, serve) -> None:
    url, out = serve("curve.csv")
    opened = Watched(browser, url()).ready()
    opened.page.get_by_label("entropy of point 2").fill("0.6")
    opened.page.keyboard.press("Enter")
    opened.until("Math.min(...Bokeh.documents[0].get_model_by_name('curve').data.value) == 0.6")
    opened.page.locator("#save").click()
    opened.until("document.getElementById('saved').value.startsWith('saved')")
    assert out.read_text() == "step,value\n0.0,0.8\n50.0,0.6\n99.0,0.8\n"
    assert read_target(out).at(25) == pytest.approx(0.7)


def test_a_point_typed_out_of_order_is_sorted_and_undone(browser, serve) -> None:
    opened = Watched(browser, serve()[0]()).ready()
    opened.page.get_by_label("step of point 1").fill("70.4")
    opened.page.keyboard.press("Enter")
    opened.until(f"{POINTS}.join() == '50,70,99'")
    assert opened.page.get_by_label("step of point 2").input_value() == "70"
    opened.page.get_by_label("step of point 3").fill("400")
    opened.page.keyboard.press("Enter")
    opened.until("document.querySelector('[aria-label=\"step of point 3\"]').value == '99'")
    opened.page.locator("#undo").click()
    opened.until(f"{POINTS}.join() == '0,50,99'")
    assert opened.page.locator("#undo").is_disabled()


def test_a_point_is_added_to_an_empty_curve(browser, serve) -> None:
    opened = Watched(browser, serve(points=[])[0]()).ready()
    for count in (1, 2, 3):
        opened.page.locator("#add").click()
        opened.until(f"{POINTS}.length == {count}")
    assert opened.page.evaluate(POINTS) == [0, 50, 99]


def test_points_are_added_and_removed_by_keyboard(browser, serve) -> None:
    opened = Watched(browser, serve()[0]()).ready()
    count = "Bokeh.documents[0].get_model_by_name('points').data.step.length"
    assert {"interpolation", "add", "save"} <= opened.reachable(keys=30)
    opened.page.locator("#add").focus()
    opened.page.keyboard.press("Enter")
    opened.until(f"{count} == 4")
    opened.page.locator("#rows button").nth(1).focus()
    opened.page.keyboard.press("Enter")
    opened.until(f"{count} == 3")


def test_points_are_whole_steps_of_the_run_in_order_and_a_drag_is_undone(browser, serve) -> None:
    opened = Watched(browser, serve()[0]()).ready()
    drag(opened, (50, 0.8), (120, 1.1))
    opened.until("Bokeh.documents[0].get_model_by_name('points').data.step.length == 2")  # 99 is taken
    opened.page.locator("#undo").click()
    opened.until("String(Bokeh.documents[0].get_model_by_name('points').data.step) == '0,50,99'")
    drag(opened, (0, 0.8), (70.4, 0.5))
    opened.until("String(Bokeh.documents[0].get_model_by_name('points').data.step) == '50,70,99'")
    opened.page.locator("#undo").click()
    opened.until("document.getElementById('undo').disabled")
    assert opened.complaints == []


def test_a_curve_without_points_gets_its_first_ones(browser, serve) -> None:
    opened = Watched(browser, serve()[0]()).ready()
    for _ in FLAT:
        opened.page.locator("#rows button").first.click()
    steps = "Bokeh.documents[0].get_model_by_name('points').data.step"
    opened.until(f"{steps}.length == 0")
    for count in (1, 2, 3):
        opened.page.locator("#add").click()
        opened.until(f"{steps}.length == {count}")
    assert list(opened.page.evaluate(f"Array.from({steps})")) == [0, 50, 99]


def test_a_smooth_curve_is_opened_as_it_was_saved(serve, tmp_path) -> None:
    url, out = serve("curve.csv")
    curve = {"points": [[0, 0.8], [50, 1.1], [99, 0.5]], "interpolation": "smooth"}
    answer = json.loads(post(url("/save"), curve)[1])
    assert answer["saved"] == f"{out}, its points to {out.with_suffix('.yaml')}"
    assert answer["next"] == f"entrostat train CONFIG control.target={out} --out runs/drawn"
    again = design(out.with_suffix(".yaml"), None, [], 100, None, out)
    assert (again.points, again.interpolation) == ([(0, 0.8), (50, 1.1), (99, 0.5)], "smooth")


def test_a_curve_opened_from_a_run_is_trained_by_the_command_that_is_printed(serve, tmp_path, capsys) -> None:
    run = tmp_path / "my run.yaml"
    run.write_text((ROOT / "examples" / "controlled.yaml").read_text())
    url, out = serve("my curve.yaml", config=design(run, None, [], 100, None, tmp_path / "x.yaml").config)
    told = json.loads(post(url("/save"), {"points": [[0, 0.8], [99, 0.6]]})[1])["next"]
    assert f"next: {told}\n" in capsys.readouterr().out
    source, *overrides = parsed(shlex.split(told)[1:]).words
    assert source == str(run)
    assert load_config(source, overrides).control.target == read_target(out)
    alone = design(ROOT / "examples" / "control.yaml", None, [], 100, 0.8, tmp_path / "x.yaml")
    assert alone.config is None


def test_a_smooth_curve_keeps_its_shape_in_csv(serve) -> None:
    url, out = serve("curve.csv")
    curve = {"points": [[0, 0.8], [50, 1.1], [99, 0.5]], "interpolation": "smooth"}
    assert post(url("/save"), curve)[0] == 200
    every = np.arange(100)
    kept = read_target(out.with_suffix(".yaml"))
    assert (kept.points, kept.interpolation) == ([(0, 0.8), (50, 1.1), (99, 0.5)], "smooth")
    assert read_target(out).at(every) == pytest.approx(Table(**curve).at(every), abs=1e-6)


def test_a_curve_that_fits_nothing_is_refused_in_one_sentence(serve) -> None:
    url, out = serve()
    status, text = post(url("/save"), {"points": [[0, -1], [5, 2]]})
    assert status == 400
    assert "-1" in text
    assert "no curve" in post(url("/save"), [1])[1]
    assert not out.exists()


def test_only_who_knows_the_token_saves(serve) -> None:
    url, out = serve()
    curve = {"points": [[0, 0.8], [99, 0.8]]}
    bare = url("/save").partition("?")[0]
    assert [post(bare + query, curve)[0] for query in ("", "?token=guessed")] == [403, 403]
    assert not out.exists()
    assert post(url("/save"), curve)[0] == 200


def test_the_check_names_the_steps_that_reach_misses() -> None:
    curve = Table(points=[(0, 0.8), (50, 0.8), (60, 1.3), (99, 1.3)])
    found = check(curve, Design(FLAT, 100, Path("x.yaml"), [PLANT]))
    band = reach(curve.at(np.arange(100)), [PLANT])
    assert (found["missed"], found["says"]) == (band.missed, f"{band}.")
    assert found["missed"][0][0] in (52, 53)


def test_the_band_of_an_integrator_opens_with_its_gain() -> None:
    low, high = envelope(0.8, 50, [MomentumPlant(gain=0.02, lag=0.0, drift=-0.005)])
    assert high == pytest.approx(0.8 + 0.015 * np.arange(50))
    assert low == pytest.approx(np.maximum(0.8 - 0.025 * np.arange(50), 0))


def test_a_curve_of_another_kind_becomes_points_near_it() -> None:
    curve = Cosine(start=1.0, end=0.4, steps=100)
    steps, values = zip(*points_of(curve, 100, None), strict=True)
    assert len(steps) < 12
    assert np.interp(np.arange(100), steps, values) == pytest.approx(curve.at(np.arange(100)), abs=0.011)


def entropies(folder: Path, values: list[float | None]) -> str:
    """A run's folder with these entropies; none stands for a step without one."""
    rows = [
        {"step": step, "controller/command": 0.1} | ({} if value is None else {"actor/entropy": value})
        for step, value in enumerate(values)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text("update: {minibatches: 4, epochs: 1, betas: [0.9, 0.999]}\n")
    (folder / "plant.yaml").write_text("gain: 0.02\n")
    return str(folder)


def test_the_flat_curve_begins_at_the_first_entropy_that_was_logged(tmp_path) -> None:
    run = entropies(tmp_path, [None, None, 0.7, 0.6])
    begun = design(None, tmp_path / "plant.yaml", [run], 100, None, tmp_path / "x.yaml")
    assert begun.points == [(0.0, 0.7), (99.0, 0.7)]


def test_a_logged_density_is_refused_in_one_sentence(tmp_path) -> None:
    run = entropies(tmp_path, [-1.0, -1.1])
    with pytest.raises(InputError, match=r"the flat curve to begin with: .*-1 is below 0"):
        design(None, tmp_path / "plant.yaml", [run], 100, None, tmp_path / "x.yaml")
