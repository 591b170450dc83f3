// The page's own controls are plain form elements, so that a keyboard reaches all of them.
"use strict"

const byId = id => document.getElementById(id)
const main = document.querySelector("main")
const named = name => Bokeh.documents[0].get_model_by_name(name)

// --- runs, axes, range of steps -----------------------------------------------------------------------------------

function switchRun(box) {
  for (const id of box.dataset.marks.split(" ")) Bokeh.documents[0].get_model_by_id(id).visible = box.checked
}

function switchAxis() {
  for (const name of ["log", "linear"]) named(name).visible = (name == "log") == byId("log").checked
}

let whole // the range of steps that shows everything

function readRange() {
  const [first, last] = [byId("first").valueAsNumber, byId("last").valueAsNumber]
  if (first < last) named("step range").setv({start: first, end: last})
}

function showRange() {
  const range = named("step range")
  for (const [id, value] of [["first", range.start], ["last", range.end]])
    if (document.activeElement != byId(id)) byId(id).value = Math.max(Math.round(value), 0)
}

// --- the inside of a step -----------------------------------------------------------------------------------------

let snapshots = byId("snapshots") ? JSON.parse(byId("snapshots").textContent) : []

function chosen() {
  const run = snapshots[byId("run").value] || []
  return run[Math.min(byId("step").value, run.length - 1)]
}

function chooseRun(keepStep) {
  const run = snapshots[byId("run").value] || [], slider = byId("step")
  const atEnd = !keepStep || slider.value == slider.max
  slider.max = Math.max(run.length - 1, 0)
  if (atEnd) slider.value = slider.max
  const most = name => run.flatMap(one => one.map[name]).reduce((a, b) => Math.max(a, b), 0.1)
  // One scale for all steps of a run: what moves is the policy, not the axes.
  named("map x").setv({start: -0.02 * most("entropy"), end: 1.05 * most("entropy")})
  named("map y").setv({start: -0.02 * most("surprisal"), end: 1.05 * most("surprisal")})
  const commands = run.flatMap(one => one.authority.command)
  if (commands.length) {
    const low = Math.min(...commands), high = Math.max(...commands), margin = 0.025 * (high - low)
    named("authority x").setv({start: low - margin, end: high + margin})
  }
  showStep()
}

function showStep() {
  const snapshot = chosen()
  byId("at").value = snapshot ? snapshot.step : "none kept"
  byId("step").setAttribute("aria-valuetext", byId("at").value)
  if (!snapshot) return
  for (const name of ["map", "authority", "point"]) named(name).data = snapshot[name]
  named("chosen step").setv({location: snapshot.step, visible: true})
  byId("answers").replaceChildren(...snapshot.answers.map(answerBox))
}

function answerBox(answer) {
  const box = document.createElement("div"), head = document.createElement("p")
  box.className = "answer"
  head.textContent = `${answer.prompt}\nreward ${answer.reward}, A = ${answer.advantage}`
  box.append(head, ...answer.tokens.map((text, i) => tokenMark(text, answer.region[i], answer.cut[i])))
  return box
}

function tokenMark(text, region, cut) {
  const mark = document.createElement("span")
  mark.className = ["token", region ? `e${region}` : "", cut ? "cut" : ""].join(" ")
  mark.textContent = text
  mark.title = (region ? `E${region}` : "no advantage") + (cut ? ", gradient cut" : "")
  return mark
}

// --- following a run ----------------------------------------------------------------------------------------------

let stamp = ""

async function follow() {
  try {
    const answer = await fetch(main.dataset.live, {headers: {"If-None-Match": stamp}, cache: "no-store"})
    if (answer.status == 200) {
      stamp = answer.headers.get("ETag")
      take(await answer.json())
    }
    document.body.dataset.lost = ""
  } catch { document.body.dataset.lost = "the watching server has ended" }
  setTimeout(follow, 500)
}

function take(news) {
  if (news.shape != main.dataset.shape) return location.reload()
  for (const [name, columns] of Object.entries(news.sources)) {
    const known = named(name)
    if (known) known.data = Object.fromEntries(Object.entries(columns).map(([key, values]) =>
      [key, Float32Array.from(values, value => value ?? NaN)]))
  }
  byId("header").innerHTML = news.header
  const range = named("step range"), shown = range.start == whole[0] && range.end == whole[1]
  whole = news.ranges["step range"]
  if (shown) range.setv({start: whole[0], end: whole[1]})
  const [low, high] = news.ranges["log range"]
  named("log range").setv({start: low, end: high})
  snapshots = news.snapshots
  if (byId("step")) chooseRun(true)
}

// --- below the first screen ---------------------------------------------------------------------------------------

const later = () => Bokeh.documents[0].roots().filter(root => root.tags.includes("later") && !root.visible)

function drawRest() {
  const [next] = later()
  if (!next) return document.body.dataset.drawn = "yes"
  next.visible = true
  setTimeout(drawRest)
}

// --- start --------------------------------------------------------------------------------------------------------

function start() {
  if (!(window.Bokeh && Bokeh.documents.length && named("step range"))) return setTimeout(start, 20)
  const range = named("step range")
  whole = [range.start, range.end]
  for (const box of document.querySelectorAll("[data-marks]")) box.addEventListener("change", () => switchRun(box))
  byId("log").addEventListener("change", switchAxis)
  byId("first").addEventListener("change", readRange)
  byId("last").addEventListener("change", readRange)
  byId("whole").addEventListener("click", () => range.setv({start: whole[0], end: whole[1]}))
  range.change.connect(showRange)
  showRange()
  if (byId("step")) {
    byId("run").value = snapshots.findIndex(run => run.length)
    byId("run").addEventListener("change", () => chooseRun(false))
    byId("step").addEventListener("input", showStep)
    chooseRun(false)
  }
  if (main.dataset.live) follow()
  document.body.dataset.ready = "yes"
  addEventListener("beforeprint", () => later().forEach(root => { root.visible = true }))
  requestIdleCallback(drawRest, {timeout: 500})
}
start()
