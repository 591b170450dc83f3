// The page's own controls are plain form elements, so that a keyboard reaches all of them.
"use strict"

const byId = id => document.getElementById(id)
const all = selector => [...document.querySelectorAll(selector)]
const main = document.querySelector("main")
const named = name => Bokeh.documents[0].get_model_by_name(name)

// --- data: as logged, and as shown on the chosen axis with the chosen smoothing -----------------------------------

const logged = new Map() // a data source's name: its columns
const STEADY = /^(step|minutes|tokens|target.*|low|high|limit|lowest|highest)$/
const smoothing = () => byId("smooth").valueAsNumber
const axis = () => byId("axis").value

// An exponential mean that starts at the first value.
function smooth(values, weight) {
  let sum = 0, share = 0
  return values.map(value => {
    if (Number.isNaN(value)) return value
    sum = weight * sum + (1 - weight) * value
    share = weight * share + 1 - weight
    return sum / share
  })
}

function shown(name) {
  const [kind, index] = name.split(" "), columns = {...logged.get(name)}, steps = columns.step
  if (kind == "marks") {
    const whole = shown(`steps ${index}`), place = new Map([...logged.get(`steps ${index}`).step].map((s, i) => [s, i]))
    for (const key in columns) columns[key] = steps.map(step => whole[key][place.get(step)])
    return columns
  }
  if (kind == "steps")
    for (const key of Object.keys(columns).filter(key => !STEADY.test(key))) {
      columns[`rough ${key}`] = columns[key]
      if (smoothing()) columns[key] = smooth(columns[key], smoothing())
    }
  return {...columns, step: columns[axis()] ?? steps.map(() => NaN), "at step": steps}
}

function refresh() {
  for (const name of logged.keys()) named(name).data = shown(name)
  for (const line of rough) line.glyph.y = {field: line.field}
  switchRuns()
}

// --- runs, axes, ranges -------------------------------------------------------------------------------------------

let owned, rough // what is drawn for runs; of that, what smoothed lines leave behind
const on = run => all("[data-run]")[run].checked

function switchRuns() {
  for (const mark of owned)
    mark.visible = mark.tags.some(tag => tag != "rough" && on(tag)) && (!mark.tags.includes("rough") || smoothing() > 0)
  for (const card of all(".card")) {
    const marks = plots(card).flatMap(plot => plot.renderers).filter(mark => owned.has(mark))
    if (marks.length) card.hidden = !marks.some(mark => mark.visible)
  }
}

function plots(card) {
  const roots = [...card.querySelectorAll("[data-root-id]")].map(root => Bokeh.documents[0].get_model_by_id(root.dataset.rootId))
  return roots.flatMap(root => root.children ?? [root])
}

function switchLog() {
  for (const name of ["log", "linear"]) named(name).visible = (name == "log") == byId("log").checked
}

function chooseAxis() {
  refresh()
  for (const {model} of overSteps()) model.below[0].axis_label = byId("axis").selectedOptions[0].text
  showAll()
  if (byId("step")) showStep()
}

let whole // the range that shows everything

function extent() {
  const known = [...logged.keys()].flatMap(name => /^(steps|ahead)/.test(name) ? [...shown(name).step] : []).filter(isFinite)
  const [low, high] = known.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity])
  const margin = Math.max(0.01 * (high - low), axis() == "step" ? 0.5 : 1e-6)
  return [low - margin, high + margin]
}

function showAll() {
  whole = extent()
  named("step range").setv({start: whole[0], end: whole[1]})
}

function readRange() {
  const [first, last] = [byId("first").valueAsNumber, byId("last").valueAsNumber]
  if (first < last) named("step range").setv({start: first, end: last})
}

function showRange() {
  const range = named("step range")
  for (const [id, value] of [["first", range.start], ["last", range.end]])
    if (document.activeElement != byId(id)) byId(id).value = +Math.max(value, 0).toPrecision(3)
}

// --- the values under the pointer, beside the plot that they are read from ----------------------------------------

function views(list = [...Bokeh.index]) {
  return list.flatMap(view => view.model.type == "Figure" ? [view] : views([...view.child_views ?? []]))
}

const overSteps = () => views().filter(view => view.model.x_range == named("step range"))

function framed(view) {
  const box = view.el.getBoundingClientRect(), {left, top, right, bottom} = view.frame.bbox
  return {left: box.left + left, right: box.left + right, top: box.top + top, bottom: box.top + bottom, end: box.bottom, box}
}

function hover(event) {
  const [x, y] = [event.clientX, event.clientY]
  const view = overSteps().find(view => {
    const frame = view.model.visible && framed(view)
    return frame && x >= frame.left && x <= frame.right && y >= frame.top && y <= frame.bottom
  })
  const lines = view ? view.model.renderers.filter(mark => mark.name?.startsWith("= ") && mark.visible) : []
  byId("hover").style.display = lines.length ? "block" : "none"
  if (!lines.length) return
  const frame = framed(view)
  byId("hover").replaceChildren(reading(lines, view.frame.x_scale.invert(x - frame.box.left)))
  const {left, top} = clear(x, frame, views().filter(other => other != view && other.model.visible).map(framed))
  Object.assign(byId("hover").style, {left: `${left}px`, top: `${top}px`})
}

// Below or above the plot, where the box covers no line of any; else beside the pointer, where there is more room.
function clear(x, frame, others) {
  const {offsetWidth: width, offsetHeight: height} = byId("hover")
  const within = (place, length, all) => Math.max(Math.min(place, all - length - 8), 8)
  const along = within(x + 12, width, innerWidth), middle = within((frame.top + frame.bottom - height) / 2, height, innerHeight)
  const sides = [x + 12, x - 12 - width]
  if (x > innerWidth / 2) sides.reverse()
  sides.push(...sides.map(side => within(side, width, innerWidth)))
  const steps = [...Array(31).keys()].map(i => (i % 2 ? 10 : -10) * i) // 0, 10, -20, 30, -40: ever further from the middle
  const places = [...[frame.end + 4, frame.bottom + 4, frame.top - height - 6].map(top => ({left: along, top})),
    ...sides.flatMap(left => steps.map(step => ({left, top: middle + step})))]
  const covers = ({left, top}) => others.some(other => other.box.width && left < other.right && other.left < left + width
    && top < other.bottom && other.top < top + height)
  const shown = ({left, top}) => left >= 0 && top >= 0 && left + width <= innerWidth && top + height <= innerHeight
  return places.find(place => shown(place) && !covers(place)) ?? {left: sides[2], top: middle}
}

// A row a run, a column for each kind of line; a target has a row of its own.
function reading(lines, at) {
  const table = document.createElement("table"), rows = new Map(), labels = new Set()
  let step
  for (const line of lines) {
    const {data} = line.data_source, place = nearest(data.step, at), name = line.name.slice(2)
    if (place < 0) continue
    const aim = name.startsWith("target"), row = aim ? name : line.tags[0], label = aim ? "entropy" : name
    step ??= (data["at step"] ?? data.step)[place]
    labels.add(label)
    rows.set(row, {...rows.get(row), [label]: data[line.glyph.y.field][place]})
  }
  const head = table.insertRow()
  for (const text of [`step ${step}${smoothing() ? `, smoothed ${smoothing()}` : ""}`, ...labels]) head.append(cell(text))
  for (const [row, values] of [...rows].sort(([a], [b]) => (typeof a == "string") - (typeof b == "string"))) {
    const tr = table.insertRow(), name = cell(row)
    if (typeof row == "number") name.replaceChildren(...[...all("[data-run]")[row].parentNode.childNodes].slice(1).map(node => node.cloneNode(true)))
    tr.append(name)
    for (const label of labels) tr.insertCell().textContent = Number.isFinite(values[label]) ? +values[label].toPrecision(4) : "-"
  }
  return table
}

function cell(text) {
  return Object.assign(document.createElement("th"), {textContent: text})
}

function nearest(values, at) {
  return values.reduce((best, value, i) => Math.abs(value - at) < (best < 0 ? Infinity : Math.abs(values[best] - at)) ? i : best, -1)
}

// --- the inside of a step -----------------------------------------------------------------------------------------

let snapshots = byId("snapshots") ? JSON.parse(byId("snapshots").textContent) : []
const ofRun = () => snapshots[byId("run").value] || []

function chooseRun(keepStep) {
  const run = ofRun(), slider = byId("step")
  const atEnd = !keepStep || slider.value == slider.max
  slider.max = Math.max(run.length - 1, 0)
  if (atEnd) slider.value = slider.max
  const most = name => run.flatMap(one => one.map[name]).reduce((a, b) => Math.max(a, b), 0.1)
  // One scale for all steps of a run: what moves is the policy, not the axes.
  named("map x").setv({start: -0.02 * most("entropy"), end: 1.05 * most("entropy")})
  named("map y").setv({start: -0.02 * most("surprisal"), end: 1.05 * most("surprisal")})
  const curves = run.map(one => one.authority).filter(curve => curve.command.length)
  for (const [axis, name] of curves.length ? [["authority x", "command"], ["authority y", "change"]] : []) {
    const values = curves.flatMap(curve => curve[name]), low = Math.min(...values), high = Math.max(...values)
    const margin = 0.025 * (high - low) || 0.1
    named(axis).setv({start: low - margin, end: high + margin})
  }
  all(".card").find(card => plots(card).includes(named("authority curve"))).hidden = !curves.length
  showStep()
}

function showStep() {
  const run = ofRun(), snapshot = run[Math.min(byId("step").value, run.length - 1)]
  byId("nothing").hidden = !!snapshot
  byId("looks").hidden = !snapshot
  byId("at").value = snapshot ? `step ${snapshot.step}` : "none kept"
  byId("step").setAttribute("aria-valuetext", byId("at").value)
  if (!snapshot) return
  for (const name of ["map", "authority", "point"]) named(name).data = snapshot[name]
  const columns = shown(`steps ${byId("run").value}`)
  named("chosen step").setv({location: columns.step[nearest(columns["at step"], snapshot.step)], visible: true})
  byId("answers").replaceChildren(...snapshot.answers.map(answerBox))
}

function answerBox(answer) {
  const box = document.createElement("div"), list = document.createElement("dl")
  box.className = "answer card"
  const marks = answer.tokens.map((text, i) => tokenMark(text, answer.region[i], answer.cut[i]))
  for (const [label, ...content] of [["prompt", answer.prompt], ["answer", ...marks], ["reward", answer.reward], ["advantage A", answer.advantage]]) {
    const [term, value] = ["dt", "dd"].map(kind => list.appendChild(document.createElement(kind)))
    term.textContent = label
    value.append(...content)
  }
  box.append(list)
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
    const answer = await fetch(main.dataset.live + location.search, {headers: {"If-None-Match": stamp}, cache: "no-store"})
    if (answer.status == 200) {
      stamp = answer.headers.get("ETag")
      take(await answer.json())
    }
    document.body.dataset.lost = ""
  } catch { document.body.dataset.lost = "the watching server has ended" }
  setTimeout(follow, 500)
}

function take(news) {
  if (news.shape != main.dataset.shape) return anew()
  for (const [name, columns] of Object.entries(news.sources))
    if (named(name)) logged.set(name, Object.fromEntries(Object.entries(columns).map(([key, values]) =>
      [key, Float32Array.from(values, value => value ?? NaN)])))
  refresh()
  renew(news.header)
  const range = named("step range")
  if (range.start == whole[0] && range.end == whole[1]) showAll()
  else whole = extent()
  named("log range").setv({start: news.log[0], end: news.log[1]})
  snapshots = news.snapshots
  if (byId("step")) chooseRun(true)
}

// What has changed alone: what a reader has opened, selected or scrolled to stays.
function renew(header) {
  const fresh = document.createElement("template")
  fresh.innerHTML = header
  for (const part of fresh.content.querySelectorAll("[data-fresh]"))
    if (byId(part.id).innerHTML != part.innerHTML) byId(part.id).innerHTML = part.innerHTML
}

const fields = () => all("aside input:not([type=number]), aside select")

function anew() {
  const set = fields().map(field => field.type == "checkbox" ? field.checked : field.value)
  sessionStorage.setItem(location.pathname, JSON.stringify({set, open: all("details").map(one => one.open), top: scrollY}))
  location.reload()
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem(location.pathname))
  sessionStorage.removeItem(location.pathname)
  if (!kept) return
  fields().slice(0, kept.set.length).forEach((field, i) => { field[field.type == "checkbox" ? "checked" : "value"] = kept.set[i] })
  all("details").slice(0, kept.open.length).forEach((one, i) => { one.open = kept.open[i] })
  switchLog()
  byId("smoothed").value = smoothing()
  chooseAxis()
  scrollTo(0, kept.top)
}

// --- below the first screen, and on paper -------------------------------------------------------------------------

const later = () => Bokeh.documents[0].roots().filter(root => root.tags.includes("later") && !root.visible)

function drawRest() {
  const [next] = later()
  if (!next) return document.body.dataset.drawn = "yes"
  next.visible = true
  setTimeout(drawRest)
}

// A plot has the width of the screen; its picture takes that of the paper.
function picture() {
  const seen = views().filter(view => view.model.visible)
  for (const image of all(".printed")) {
    const view = seen.find(view => plots(image.parentNode).includes(view.model))
    if (view) image.src = view.export("png").canvas.toDataURL()
  }
}

// --- start --------------------------------------------------------------------------------------------------------

function start() {
  if (!(window.Bokeh && Bokeh.documents.length && named("step range"))) return setTimeout(start, 20)
  const models = [...Bokeh.documents[0]._all_models.values()]
  owned = new Set(models.filter(model => model.type == "GlyphRenderer" && model.tags.length))
  rough = [...owned].filter(mark => mark.tags.includes("rough"))
  for (const line of rough) line.field = `rough ${line.glyph.y.field}`
  for (const {name, data} of models.filter(model => model.type == "ColumnDataSource" && /^\w+ \d+$/.test(model.name)))
    logged.set(name, data)
  for (const option of byId("axis").options) option.disabled = ![...logged.values()].some(columns => option.value in columns)
  for (const box of all("[data-run]")) box.addEventListener("change", switchRuns)
  byId("smooth").addEventListener("input", () => { byId("smoothed").value = smoothing(); refresh() })
  byId("axis").addEventListener("change", chooseAxis)
  byId("log").addEventListener("change", switchLog)
  for (const id of ["first", "last"]) byId(id).addEventListener("change", readRange)
  byId("whole").addEventListener("click", showAll)
  named("step range").change.connect(showRange)
  for (const kind of ["pointermove", "pointerdown"]) addEventListener(kind, hover)
  addEventListener("scroll", () => { byId("hover").style.display = "none" })
  if (byId("step")) {
    byId("run").value = snapshots.findIndex(run => run.length)
    byId("run").addEventListener("change", () => chooseRun(false))
    byId("step").addEventListener("input", showStep)
  }
  showAll()
  showRange()
  restore()
  if (byId("step")) chooseRun(false)
  if (main.dataset.live) follow()
  document.body.dataset.ready = "yes"
  addEventListener("beforeprint", () => { later().forEach(root => { root.visible = true }); picture() })
  requestIdleCallback(drawRest, {timeout: 500})
}
start()
