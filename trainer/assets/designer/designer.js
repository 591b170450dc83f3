// The points are the one thing edited, by mouse in the plot or by keyboard in the table; the server says what follows.
"use strict"

const byId = id => document.getElementById(id)
const named = name => Bokeh.documents[0].get_model_by_name(name)

function points() {
  const {step, value} = named("points").data
  return Array.from(step, (s, i) => [s, value[i]]).filter(point => point.every(Number.isFinite))
}

// Whole steps inside the run, rising, and no entropy below zero.
function tidy(list) {
  const inside = list.map(([s, v]) => [Math.min(Math.max(Math.round(s), 0), STEPS - 1), Math.max(+v.toFixed(4), 0)])
  return [...new Map(inside.sort((a, b) => a[0] - b[0]))]
}

function setPoints(list) {
  const sorted = tidy(list)
  named("points").data = {step: sorted.map(p => p[0]), value: sorted.map(p => p[1])}
}

// What the points were before each change, for `undo`; a drag is one change, since it is looked at when it has ended.
const past = []
let settled = null

function settle() {
  const now = tidy(points())
  if (JSON.stringify(now) != JSON.stringify(points())) return setPoints(now)  // which settles anew
  if (JSON.stringify(now) == JSON.stringify(settled)) return
  if (settled) past.push(settled)
  settled = now
  byId("undo").disabled = !past.length
}

function undo() {
  if (!past.length) return
  settled = past.pop()
  setPoints(settled)
  byId("undo").disabled = !past.length
}

function body() {
  return JSON.stringify({points: tidy(points()), interpolation: byId("interpolation").value})
}

async function ask(path) {
  const answer = await fetch(path + location.search, {method: "POST", body: body()})
  if (!answer.ok) throw Error(await answer.text())
  return answer.json()
}

let due = null
let dragging = false

function changed() {
  if (!dragging) settle()
  byId("saved").value = ""
  showRows()
  clearTimeout(due)
  due = setTimeout(check, 40)
}

async function check() {
  try {
    const found = await ask("/check")
    named("curve").data = {step: found.step, value: found.value}
    if (found.low) {
      named("band").data = {step: found.step, low: found.low, high: found.high}
      const over = found.step.map((s, i) => found.missed.some(([a, b]) => s >= a && s <= b) ? found.value[i] : NaN)
      named("missed").data = {step: found.step, value: over}
    }
    byId("says").textContent = found.says
  } catch (error) { byId("says").textContent = error.message }
}

async function save() {
  try { byId("saved").value = (await ask("/save")).said }
  catch (error) { byId("saved").value = error.message }
}

function showRows() {
  if (byId("rows").contains(document.activeElement)) return  // it is being typed in
  byId("rows").replaceChildren(...tidy(points()).map(([step, value], index) => {
    const row = document.createElement("tr")
    const edit = (place, text, at) => {
      const input = Object.assign(document.createElement("input"), {type: "number", value: +at.toFixed(4), step: "any"})
      input.setAttribute("aria-label", `${text} of point ${index + 1}`)
      input.addEventListener("change", () => {
        const list = tidy(points())
        list[index] = place ? [list[index][0], input.valueAsNumber] : [input.valueAsNumber, list[index][1]]
        if (list[index].every(Number.isFinite)) { input.blur(); setPoints(list) }
      })
      return input
    }
    const remove = Object.assign(document.createElement("button"), {type: "button", textContent: "remove"})
    remove.addEventListener("click", () => { remove.blur(); setPoints(tidy(points()).filter((_, i) => i != index)) })
    for (const part of [edit(0, "step", step), edit(1, "entropy", value), remove]) {
      const cell = document.createElement("td")
      cell.append(part)
      row.append(cell)
    }
    return row
  }))
}

function add() {
  const list = tidy(points())
  if (!list.length) return setPoints([[0, named("levels").end / 2]])
  if (list.length == 1) return setPoints([...list, [list[0][0] < STEPS - 1 ? STEPS - 1 : 0, list[0][1]]])
  // In the middle of the widest gap, on the line.
  let gap = 0
  for (let i = 1; i + 1 < list.length; i++) if (list[i + 1][0] - list[i][0] > list[gap + 1][0] - list[gap][0]) gap = i
  const [a, b] = [list[gap], list[gap + 1]]
  setPoints([...list, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]])
}

function start() {
  if (!(window.Bokeh && Bokeh.documents.length && named("points"))) return setTimeout(start, 20)
  named("points").properties.data.change.connect(changed)
  byId("interpolation").addEventListener("change", changed)
  byId("add").addEventListener("click", add)
  byId("undo").addEventListener("click", undo)
  addEventListener("keydown", event => {
    if ((event.ctrlKey || event.metaKey) && event.key == "z" && event.target.tagName != "INPUT") undo()
  })
  addEventListener("pointerdown", () => { dragging = true }, true)
  for (const end of ["pointerup", "pointercancel"])
    addEventListener(end, () => setTimeout(() => { dragging = false; settle() }), true)
  byId("save").addEventListener("click", save)
  changed()
  document.body.dataset.ready = "yes"
}
start()
