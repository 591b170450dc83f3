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
  changed() // even where they are what they were: the table may hold what was typed
}

const same = (one, other) => JSON.stringify(one) == JSON.stringify(other)

// Every state that was looked at, the newest last; what is undone is gone.
const past = []

function remember() {
  if (!same(past.at(-1), tidy(points()))) past.push(tidy(points()))
  byId("undo").disabled = past.length < 2
}

function undo() {
  remember()
  if (past.length > 1) past.pop()
  setPoints(past.at(-1))
  byId("undo").disabled = past.length < 2
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

function changed() {
  byId("saved").value = byId("next").textContent = ""
  showRows()
  clearTimeout(due)
  due = setTimeout(check, 40)
}

let dragging = false

// The points come to rest on whole steps, in order.
function settle() {
  if (dragging) return
  const list = tidy(points())
  if (!same(list, points())) return setPoints(list)
  remember()
}

async function check() {
  settle()
  try {
    const found = await ask("/check")
    named("curve").data = {step: found.step, value: found.value}
    if (found.low) named("band").data = {step: found.step, low: found.low, high: found.high}
    const over = found.step.map((s, i) => found.missed.some(([a, b]) => s >= a && s <= b) ? found.value[i] : NaN)
    named("missed").data = {step: found.step, value: over}
    document.querySelector(".key span:last-child").hidden = !found.missed.length
    byId("says").textContent = found.says
  } catch (error) { byId("says").textContent = error.message }
}

async function save() {
  try {
    const {saved, next} = await ask("/save")
    byId("saved").value = `saved to ${saved}; next:`
    byId("next").textContent = next
  }
  catch (error) { byId("saved").value = error.message }
}

function showRows() {
  if (byId("rows").contains(document.activeElement)) return  // it is being typed in
  byId("rows").replaceChildren(...tidy(points()).map(([step, value], index) => {
    const row = document.createElement("tr")
    const edit = (place, text, at) => {
      const input = Object.assign(document.createElement("input"), {type: "number", value: +at.toFixed(4), min: 0, step: place ? "any" : 1})
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
  if (list.length < 2) return setPoints([...list, [list[0]?.[0] < STEPS - 1 ? STEPS - 1 : 0, list[0]?.[1] ?? 0.8]])
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
  byId("save").addEventListener("click", save)
  addEventListener("keydown", event => {
    if ((event.ctrlKey || event.metaKey) && event.key == "z" && event.target.tagName != "INPUT") { event.preventDefault(); undo() }
  })
  addEventListener("pointerdown", event => { dragging = !!event.target.closest("[data-root-id]") }, true)
  addEventListener("pointerup", () => { if (dragging) { dragging = false; changed() } }, true)
  changed()
  document.body.dataset.ready = "yes"
}
start()
