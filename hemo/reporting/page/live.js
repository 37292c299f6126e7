// A page that follows its records: it asks for the progress, and loads itself again when more than that has changed.
"use strict";
const LIVE = DATA.live;
const KEPT = "hemo-watch";
const QUIET_MS = 2500;  // after the reader's last key or click, before the page is loaded again
let current = null, lastInput = -QUIET_MS;

for (const kind of ["keydown", "pointerdown", "wheel", "input"]) addEventListener(kind, () => { lastInput = performance.now(); }, { passive: true, capture: true });

// --- what the reader chose, kept over a reload; the selected trial is in the address ---
const CONTROLS = ["varying", "complete", "scatter-x", "scatter-y"];
const valueOf = (control) => (control.type === "checkbox" ? control.checked : control.value);

// Heights above change with progress, cautions and plots: the place is that of the last part that begins in the upper third.
function place() {
  const parts = [...document.querySelectorAll("main :is(section, h2, h3, figure, .panel)[id]")].filter((part) => part.getClientRects().length && part.getBoundingClientRect().top <= innerHeight / 3);
  const last = parts.at(-1);
  return last ? [last.id, last.getBoundingClientRect().top] : null;
}

const captionOf = (summary) => summary.textContent.replace(/ \([\d,]+ rows?\)$/, ""); // rows come

function keep() {
  const kept = { place: place(), open: [...document.querySelectorAll("main details[open] > summary")].map(captionOf), trials: DATA.comparisons.flatMap((each) => each.trials.map((trial) => trial.digest)) };
  if (table) Object.assign(kept, {
    controls: Object.fromEntries(CONTROLS.map((id) => [id, valueOf(byId(id))])),
    comparison: state.comparison.key, pins: state.pins.map((trial) => trial.digest), column: state.column,
    threshold: rates()?.threshold[state.step] ?? null, prevalence: state.prevalence,
    brushed: state.brushed && [...state.brushed], search: table.search(), length: table.page.len(), page: table.page(),
    columns: Object.fromEntries(state.comparison.columns.map((column, index) => [column.title, table.column(index + 2).visible()])),
    order: table.order().map(([index, way]) => [index < 2 ? index : state.comparison.columns[index - 2].title, way]), builder: table.searchBuilder?.getDetails?.(),
  });
  sessionStorage.setItem(KEPT, JSON.stringify(kept));
}

function restore() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  sessionStorage.removeItem(KEPT);
  if (!kept) return;
  if (table && kept.controls) restoreStudy(kept);
  for (const summary of document.querySelectorAll("main details > summary")) summary.parentElement.open = kept.open.includes(captionOf(summary));
  const came = DATA.comparisons.flatMap((each) => each.trials).filter((trial) => !kept.trials.includes(trial.digest));
  if (came.length) byId("changed").textContent = `New: ${came.map((trial) => `${trial.name} (${trial.status})`).slice(0, 5).join(", ")}${came.length > 5 ? `, and ${came.length - 5} more` : ""}.`;
  const at = kept.place && byId(kept.place[0]);
  if (at) scrollBy({ top: at.getBoundingClientRect().top - kept.place[1], behavior: "instant" });
}

function restoreStudy(kept) {
  if (kept.comparison !== state.comparison.key) return;
  const { columns } = state.comparison, place = (name) => (typeof name === "number" ? name : 2 + columns.findIndex((column) => column.title === name));
  for (const [id, value] of Object.entries(kept.controls)) { if (byId(id).type === "checkbox") byId(id).checked = value; else byId(id).value = value; }
  state.pins = kept.pins.map(find).filter(Boolean);
  if (kept.column < state.comparison.classes.length) { state.column = kept.column; byId("class").value = kept.column; }
  const at = rates()?.threshold.indexOf(kept.threshold) ?? -1;
  Object.assign(state, { step: at >= 0 ? at : null, prevalence: kept.prevalence });
  for (const [title, visible] of Object.entries(kept.columns)) if (place(title) > 1) table.column(place(title)).visible(visible, false);
  table.columns.adjust();
  if (kept.builder?.criteria?.length) table.searchBuilder.rebuild(kept.builder);
  table.order(kept.order.filter(([name]) => place(name) !== 1 || name === 1).map(([name, way]) => [place(name), way])).search(kept.search);
  if (trials().length > 15) table.page.len(kept.length).page(kept.page);
  if (kept.brushed) state.brushed = new Set(kept.brushed.filter(find));
  showBrush();
  showPins();
  showEvidence();
  table.draw("page");
  redraw();
}

// --- progress ---
function showSweeps() {
  byId("sweeps").replaceChildren(...(current.sweeps.length ? current.sweeps.flatMap(sweepParts) : [element("p", current.waits)]));
  redraw("progress");
  byId("figure-progress").hidden = !current.sweeps.some((sweep) => sweep.curves.length);
}

function sweepParts(sweep) {
  const parts = [element("p", sweep.heading)];
  if (sweep.rows.length) parts.push(plainTable([sweep.head, ...sweep.rows], "Trials that have not ended"));
  if (sweep.more) parts.push(element("p", `${sweep.more.toLocaleString("en")} more are waiting.`, { class: "note" }));
  return [...parts, ...sweep.reasons.map((text) => element("p", text, { class: "note" }))];
}

addPlot("progress", () => {
  const running = current?.sweeps.flatMap((sweep) => sweep.curves) ?? [];
  if (!running.length) return null;
  const line = (name, y, style) => ({ type: "scatter", mode: y.length > 1 ? "lines+markers" : "markers", name: escaped(short(name)), x: y.map((_, index) => index + 1), y, marker: { size: 4 }, ...style });
  // several kinds of loss are on several scales
  const best = state.comparison?.order === "val loss" ? find(state.comparison.best) : null;
  const traces = running.map(({ name, values }, index) => line(name, values, { line: { color: css(`--c${1 + (index % 4)}`), dash: ["solid", "dot", "dashdot"][Math.floor(index / 4)], width: 2 } }));
  if (best?.curves["val loss"]) traces.push(line(`best: ${best.name}`, best.curves["val loss"], { mode: "lines", line: { color: css("--soft"), dash: "dash", width: 1.5 } }));
  return { traces, layout: { xaxis: { title: { text: "epoch" }, rangemode: "tozero" }, yaxis: { title: { text: "validation loss" } } } };
});

// --- the server ---
function loadAgain() {
  keep();
  location.reload();
}

// Returns whether the page shows something else than the records have now.
async function look() {
  try {
    const answer = await fetch("now.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const found = await answer.json(), moved = JSON.stringify(found.sweeps) !== JSON.stringify(current?.sweeps);
    current = found;
    byId("read").textContent = `Records as of ${new Date(found.read).toLocaleTimeString()}.`;
    showTrouble(found.trouble ? `The records cannot be read at the moment; this is what was read before. ${found.trouble}` : "");
    if (moved) showSweeps();
    return found.version !== LIVE.version;
  } catch (error) {
    showTrouble("hemo watch does not answer: it was ended, or the connection is lost. This is what was read before.");
    return false;
  }
}

async function follow() {
  if (await look()) {
    byId("changed").textContent = `Changed: ${current.changed.slice(0, 5).join(", ") || "the records"}.`;
    byId("renew").hidden = false;
    if (performance.now() - lastInput > QUIET_MS) return loadAgain();
  }
  setTimeout(follow, 1000 * Math.min(LIVE.refresh_s, 3600));
}

function showTrouble(text) {
  if (byId("trouble").textContent !== text) byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

started.then(async () => {
  history.scrollRestoration = "manual";
  await look();
  restore();
  byId("renew").addEventListener("click", loadAgain);
  document.documentElement.dataset.live = LIVE.version;
  follow();
});
