// The page of the trials: one state (comparison, trial, pins, class, threshold, prevalence); everything follows it.
"use strict";
const state = { comparison: DATA.comparisons[0], trial: null, pins: [], column: 0, step: 0, prevalence: null, brushed: null };
const COLOURS = ["--c1", "--c2", "--c3"];
const trials = () => state.comparison.trials;
const find = (digest) => trials().find((trial) => trial.digest === digest);
const shown = () => [state.trial, ...state.pins.filter((pin) => pin !== state.trial)].filter(Boolean);
const kept = (trial) => (!state.brushed || state.brushed.has(trial.digest)) && (!byId("complete").checked || trial.status === "complete");
let table = null, TableClass = null;

// --- selection ---
function select(digest, follow = true) {
  const comparison = DATA.comparisons.find((each) => each.trials.some((trial) => trial.digest === digest));
  if (!comparison) return;
  if (comparison !== state.comparison || !table) openComparison(comparison);
  state.trial = find(digest);
  state.step = null;
  if (follow) history.replaceState(null, "", `#trial=${digest}`);
  byId("now").textContent = state.trial.name;
  for (const place of document.querySelectorAll(".trial-name")) place.textContent = state.trial.name;
  byId("trial").value = digest;
  markRows();
  showEvidence();
  showFacts();
  redraw();
}

function openComparison(comparison) {
  Object.assign(state, { comparison, pins: [], column: 0, brushed: null, prevalence: null });
  byId("comparison").value = comparison.key;
  byId("trial").replaceChildren(...comparison.trials.map((trial) => new Option(trial.name + (trial.evidence ? "" : " (no curves)"), trial.digest)));
  byId("class").replaceChildren(...comparison.classes.map((name, index) => new Option(name, index)));
  byId("class").parentElement.hidden = comparison.classes.length < 2;
  byId("which-search").replaceChildren(...comparison.searches.map((search, index) => new Option(search.title, index)));
  byId("which-search").parentElement.hidden = comparison.searches.length < 2;
  showSearch();
  for (const option of byId("scatter-x").options) option.disabled = !comparison.trials.some((trial) => trial[option.value]);
  buildTable();
  showPins();
  showBrush();
}

function pin(digest) {
  const trial = find(digest);
  state.pins = state.pins.includes(trial) ? state.pins.filter((each) => each !== trial) : [...state.pins, trial].slice(-2);
  markRows();
  showPins();
  redraw("curves", "roc", "precision", "scatter");
}

// --- table ---
function buildTable() {
  if (table) { table.destroy(); byId("table").replaceChildren(); }
  const { columns, best, chosen_by } = state.comparison;
  const first = [
    { title: "Pin", orderable: false, searchable: false, className: "pin", render: (_, type, trial) => (type === "display" ? `<button type="button" class="pin" data-pin="${trial.digest}" aria-pressed="false" aria-label="Pin ${escaped(trial.name)}">Pin</button>` : "") },
    { title: "trial", className: "name", render: (_, type, trial) => (type === "display" ? `<a href="#trial=${trial.digest}">${unbroken(escaped(trial.name))}</a>` + (trial.digest === best ? `<span class="badge">${escaped(chosen_by)}</span>` : "") : trial.name) },
  ];
  const others = columns.map((column, index) => ({
    title: unbroken(escaped(column.title)), name: column.kind, type: "value", className: trials().some((t) => typeof t.cells[index][0] === "number") ? "num" : "",
    visible: column.varies || (column.kind === "result" && column.title.startsWith("test")),
    render: (_, type, trial) => (type === "display" ? escaped(trial.cells[index][1]) : type === "sort" || type === "type" ? trial.cells[index][0] : trial.cells[index][1]),
  }));
  const wide = matchMedia("(min-width: 62rem)").matches;
  table = new TableClass(byId("table"), {
    data: trials(), columns: [...first, ...others].map((each) => ({ data: null, ...each })), order: [], autoWidth: false, deferRender: true,
    pageLength: 15, lengthMenu: [15, 50, 100, -1].map((n) => (n < 0 ? { label: "all", value: -1 } : n)), paging: trials().length > 15,
    scrollX: true, fixedColumns: wide ? { start: 2 } : false,
    layout: { topStart: { buttons: [{ extend: "colvis", text: "Choose columns", columns: ":gt(1)" }, { extend: "searchBuilder", text: "Filter by columns", config: { columns: ":gt(0)" } }, csvButton(":visible:gt(0)")] }, topEnd: { search: { placeholder: "name or value" } }, bottomStart: ["info", "pageLength"], bottomEnd: trials().length > 15 ? "paging" : null },
    createdRow: (row, trial) => { row.dataset.digest = trial.digest; row.classList.add(trial.status); },
    language: { search: "Search", searchBuilder: { button: { 0: "Filter by columns", _: "Filter by columns (%d)" } } },
  });
  table.search.fixed("kept", (_text, trial) => kept(trial));
  table.on("draw", markRows);
  table.draw();
  hintMore(table.table().container());
}

// A name states most settings. The others and the main results fit on paper.
const ON_PAPER = ["val loss", "val AUROC", "test AUROC (95 %)", "test acc (95 %)", "training time", "status"], PAPER_SETTINGS = 2;
addEventListener("beforeprint", () => {
  if (!table) return;
  const { columns } = state.comparison, rows = table.rows({ search: "applied", order: "applied" }).data().toArray();
  const visible = columns.map((_, index) => index).filter((index) => table.column(index + 2).visible());
  const settings = visible.filter((index) => columns[index].kind === "setting" && columns[index].varies && !trials().every((trial) => trial.name.includes(trial.cells[index][1])));
  const kept = [...settings.slice(0, PAPER_SETTINGS), ...visible.filter((index) => columns[index].varies && ON_PAPER.includes(columns[index].title))];
  const left = visible.filter((index) => !kept.includes(index)).map((index) => columns[index].title);
  showOnPaper(["trial", ...kept.map((index) => columns[index].title)], rows.map((trial) => [trial.name, ...kept.map((index) => trial.cells[index][1])]), left.length ? [`columns ${left.join(", ")}`] : []);
});

function markRows() {
  for (const row of document.querySelectorAll("tr[data-digest]")) {
    const chosen = state.trial?.digest === row.dataset.digest;
    row.classList.toggle("chosen", chosen);
    const link = row.querySelector("td.name a"), button = row.querySelector("button.pin");
    if (link) link.toggleAttribute("aria-current", chosen);
    if (button) {
      const pinned = state.pins.some((each) => each.digest === row.dataset.digest);
      button.setAttribute("aria-pressed", pinned);
    }
  }
}

// --- two pinned trials ---
function halfWidth(one, other) {
  const { digests, half_widths, unit } = state.comparison.pairs;
  const [i, j] = [digests.indexOf(one.digest), digests.indexOf(other.digest)].sort((a, b) => a - b);
  if (i < 0 || !half_widths.length) return null;
  return half_widths[i * digests.length - (i * (i + 1)) / 2 + j - i - 1] * unit;
}

// To the decimals that both cells have.
function differenceText(title, [a, textA], [b, textB]) {
  if (title === "training time") return (a < b ? "-" : "+") + hours(Math.abs(a - b));
  const digits = Math.min(...[textA, textB].map((text) => text.match(/^-?[\d,]*\.?(\d*)/)[1].length));
  return digits ? signed(a - b, digits) : (a < b ? "" : "+") + Math.round(a - b).toLocaleString("en");
}

function showPins() {
  const box = byId("pinned"), [one, other] = state.pins;
  box.hidden = !one;
  if (!one) return;
  if (!other) return box.replaceChildren(element("p", `Pinned: ${one.name}. Pin another one to see their difference.`));
  const rows = [["", one.name, other.name, "first minus second (95 %)"]];
  if (one.auroc && other.auroc) {
    const gap = one.auroc[0] - other.auroc[0], half = halfWidth(one, other);
    rows.push(["test AUROC", estimate(one.auroc), estimate(other.auroc), estimate(half === null ? [gap, null, null] : [gap, gap - half, gap + half], true)]);
  }
  state.comparison.columns.forEach((column, index) => {
    const [a, b] = [one.cells[index], other.cells[index]];
    if (a[1] === b[1] || column.title.startsWith("test AUROC")) return;
    const both = column.kind === "result" && typeof a[0] === "number" && typeof b[0] === "number";
    rows.push([column.title, a[1], b[1], both ? differenceText(column.title, a, b) : ""]);
  });
  const reason = state.comparison.pairs.reason;
  const note = reason ? `No interval: ${reason}.` : `Paired on the same test ${state.comparison.rows_are}, patients as the unit; of these trained models, not adjusted for the number of pairs one could look at. Only AUROC has an interval.`;
  box.replaceChildren(element("h3", "Pinned"), plainTable(rows, "Two pinned trials", true), element("p", note, { class: "note" }));
}

// --- plots of all trials ---
const trialPlot = (id, ...rest) => byId(id) && addPlot(id, ...rest);
function hours(seconds) {
  const s = Math.round(seconds), two = (number) => String(number % 60).padStart(2, "0");
  return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60))}:${two(s)}`;
}
const SPLITS = [["train", "--c3", "circle-open"], ["val", "--c1", "square"], ["test", "--c2", "diamond"]];

trialPlot("scatter", () => {
  const across = byId("scatter-x"), down = byId("scatter-y"), x = across.value, y = down.value, name = down.selectedOptions[0].text;
  const label = { seconds: "training time (minutes)", latency_ms: "latency of one image (ms)", megabytes: "size (MB)", parameters: "parameters" }[x];
  const at = (trial) => (x === "seconds" ? trial.seconds / 60 : trial[x]);
  const points = trials().filter((trial) => trial[x] && kept(trial));
  if (!points.length) return { traces: [], layout: { annotations: [{ text: "Nothing to show", showarrow: false }] } };
  const text = (trial, split) => `<b>${escaped(trial.name)}</b><br>${split} ${name} ${trial.metrics[split][y].toFixed(3)}<br>${x === "seconds" ? hours(trial.seconds) : at(trial).toLocaleString("en")}${trial.pareto ? "<br>on the front" : ""}`;
  const traces = SPLITS.map(([split, colour, symbol]) => {
    const has = points.filter((trial) => trial.metrics[split]?.[y] !== undefined);
    return { type: "scatter", mode: "markers", name: split, x: has.map(at), y: has.map((trial) => trial.metrics[split][y]), customdata: has.map((trial) => trial.digest), text: has.map((trial) => text(trial, split)), hoverinfo: "text", marker: { color: css(colour), symbol, size: points.length > 100 ? 5 : 8, opacity: points.length > 100 ? 0.7 : 0.95 } };
  });
  const front = points.filter((trial) => trial.pareto && trial.metrics.val?.[y] !== undefined).sort((a, b) => at(a) - at(b));
  if (front.length) traces.push({ type: "scatter", mode: "markers", name: "front (val)", x: front.map(at), y: front.map((t) => t.metrics.val[y]), hoverinfo: "skip", marker: { symbol: "square-open", size: 14, color: css("--c1"), line: { width: 2 } } });
  shown().filter((trial) => trial[x]).forEach((trial, index) => {
    const values = SPLITS.map(([split]) => trial.metrics[split]?.[y]).filter((v) => v !== undefined);
    if (values.length) traces.unshift({ type: "scatter", mode: "lines", name: short(trial.name), x: [at(trial), at(trial)], y: [Math.min(...values), Math.max(...values)], hoverinfo: "skip", line: { color: css("--ink"), width: index ? 2 : 4, dash: index ? "dot" : "solid" }, opacity: 0.45 });
  });
  return { traces, layout: { xaxis: { title: { text: label } }, yaxis: { title: { text: name } } } };
}, (target) => {
  target.removeAllListeners?.("plotly_click");
  target.on("plotly_click", (event) => { const digest = event.points[0]?.customdata; if (digest) select(digest); });
});

trialPlot("curves", () => {
  const traces = [];
  shown().forEach((trial, index) => {
    for (const [axis, metric] of [["", "loss"], ["2", "accuracy"]]) for (const split of ["train", "val"]) {
      const y = trial.curves[`${split} ${metric}`];
      if (!y) continue;
      traces.push({ type: "scatter", mode: y.length > 1 ? "lines" : "markers", x: y.map((_, i) => i + 1), y, xaxis: `x${axis}`, yaxis: `y${axis}`, name: escaped(`${short(trial.name)}, ${split}`), legendgroup: `${index}${split}`, showlegend: !axis, line: { color: css(COLOURS[index]), dash: split === "train" ? "dash" : "solid", width: split === "train" ? 1.5 : 2.5 } });
    }
  });
  if (!traces.length) return null;
  const narrow = byId("curves").clientWidth < 560;
  return { traces, layout: { grid: { rows: narrow ? 2 : 1, columns: narrow ? 1 : 2, pattern: "independent", xgap: 0.18, ygap: 0.35 }, xaxis: { title: { text: "epoch" }, rangemode: "tozero" }, xaxis2: { title: { text: "epoch" }, rangemode: "tozero" }, yaxis: { title: { text: "loss" } }, yaxis2: { title: { text: "accuracy at 0.5" } } } };
});

function heights(values) {
  const numbers = values.every((value) => typeof value === "number");
  if (!numbers) {
    const names = [...new Set(values.map(String))].sort(), span = Math.max(1, names.length - 1);
    return { at: values.map((value) => names.indexOf(String(value)) / span), ticks: names.map((name, i) => [i / span, short(name, 16)]) };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)], log = low > 0 && high / low >= 10;
  const scale = (value) => (high === low ? 0.5 : log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const distinct = [...new Set(values)].sort((a, b) => a - b), shown = distinct.length <= 6 ? distinct : [low, high];
  return { at: values.map(scale), ticks: shown.map((value) => [scale(value), String(Number(value.toPrecision(3)))]) };
}

// Of the settings that differ and the results: values of the trials that have all of them, so no external model.
function parallelAxes() {
  const { columns } = state.comparison, named = (start) => columns.findIndex((column) => column.title.startsWith(start));
  const settings = columns.map((_, index) => index).filter((index) => columns[index].kind === "setting" && columns[index].varies && columns[index].title !== "seed");
  const having = trials().filter((trial) => trial.cells[named("val loss")]?.[0] != null && settings.every((index) => trial.cells[index][0] !== null));
  const axes = [...settings, ...new Set([named("val loss"), named("val acc"), named(state.comparison.order), named("test AUROC")])].filter((index) => index >= 0 && having.every((trial) => trial.cells[index][0] !== null));
  const order = named(state.comparison.order), up = state.comparison.order === "val loss" ? 1 : -1; // as the best trial was chosen
  return { axes, having, rank: having.filter((trial) => trial.cells[order]?.[0] != null).sort((a, b) => up * (a.cells[order][0] - b.cells[order][0])) };
}

trialPlot("parallel", () => {
  const { axes, having, rank } = parallelAxes(), { columns } = state.comparison;
  if (axes.length < 2 || having.length < 3) return null;
  const scaled = axes.map((index) => heights(having.map((trial) => trial.cells[index][0])));
  // equal values are spread a little, so that no line hides another
  const y = having.map((_, row) => scaled.map((axis, at) => axis.at[row] + 0.04 * (((row * 0.618 + at * 0.37) % 1) - 0.5) * (axis.ticks.length < having.length ? 1 : 0)));
  const best = new Set(rank.slice(0, Math.ceil(rank.length / 4))), chosen = new Set(shown());
  const group = (name, of, line, opacity) => {
    const rows = having.map((_, row) => row).filter((row) => of(having[row]));
    const flat = (value) => rows.flatMap((row) => [...axes.map((_, at) => value(row, at)), null]);
    return { type: "scatter", mode: "lines+markers", name, opacity, line, marker: { size: 4, color: line.color }, x: flat((_, at) => at), y: flat((row, at) => y[row][at]), customdata: flat((row) => having[row].digest), text: flat((row, at) => `${escaped(having[row].name)}<br>${escaped(columns[axes[at]].title)} ${escaped(having[row].cells[axes[at]][1])}`), hoverinfo: "text", selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.25 } } };
  };
  const traces = [
    group("filtered out", (trial) => !kept(trial) && !chosen.has(trial), { color: css("--line"), width: 0.6 }, 0.6),
    group("other trials", (trial) => kept(trial) && !best.has(trial) && !chosen.has(trial), { color: css("--soft"), width: 0.8, dash: "dot" }, 0.6),
    group(`best quarter by ${state.comparison.order}`, (trial) => kept(trial) && best.has(trial) && !chosen.has(trial), { color: css("--c1"), width: 1.2 }, 0.8),
    ...shown().map((trial, index) => group(short(escaped(trial.name), 40), (each) => each === trial, { color: css(index ? COLOURS[index] : "--c2"), width: 3.5 }, 1)),
  ].filter((trace) => trace.x.length);
  const marks = scaled.flatMap((axis, at) => axis.ticks.map(([height, text]) => ({ x: at, y: height, text: escaped(text), showarrow: false, xanchor: "left", xshift: 6, font: { size: 12 }, bgcolor: css("--paper"), opacity: 0.85 })));
  const lines = axes.map((_, at) => ({ type: "line", x0: at, x1: at, y0: -0.03, y1: 1.03, line: { color: css("--soft"), width: 1 } }));
  return { traces, layout: { shapes: lines, annotations: marks, dragmode: "select", xaxis: { range: [-0.15, axes.length - 0.45], tickvals: axes.map((_, at) => at), ticktext: axes.map((index) => escaped(short(columns[index].title, 18))), showgrid: false, zeroline: false, side: "bottom" }, yaxis: { visible: false, range: [-0.07, 1.07], fixedrange: true } } };
}, (target) => {
  for (const event of ["plotly_click", "plotly_selected"]) target.removeAllListeners?.(event);
  target.on("plotly_click", (event) => { const digest = event.points[0]?.customdata; if (digest) select(digest); });
  target.on("plotly_selected", (event) => {
    if (!event?.points?.length) return;
    const byAxis = new Map();
    for (const point of event.points) byAxis.set(point.x, (byAxis.get(point.x) ?? new Set()).add(point.customdata));
    const sets = [...byAxis.values(), ...(state.brushed ? [state.brushed] : [])];
    brush(new Set([...sets[0]].filter((digest) => sets.every((each) => each.has(digest)))));
  });
});

function brush(digests) {
  state.brushed = digests;
  showBrush();
  table.draw();
  redraw("scatter", "parallel");
}

function showBrush() {
  byId("clear").hidden = !state.brushed;
  byId("brushed").textContent = state.brushed ? `${state.brushed.size} of ${trials().length} trials kept` : "";
}

const theSearch = () => state.comparison.searches[Number(byId("which-search").value) || 0];

trialPlot("search", () => {
  const search = theSearch();
  if (!search) return null;
  let best = null;
  const running = search.values.map((value, i) => (best = search.pruned[i] ? best : best === null ? value : search.less_is_better ? Math.min(best, value) : Math.max(best, value)));
  const part = (pruned, name, colour, symbol) => { const at = search.values.map((_, i) => i).filter((i) => search.pruned[i] === pruned); return { type: "scatter", mode: "markers", name, x: at.map((i) => i + 1), y: at.map((i) => search.values[i]), customdata: at.map((i) => search.digests[i]), text: at.map((i) => escaped(find(search.digests[i])?.name ?? "")), hoverinfo: "text+y", marker: { color: css(colour), symbol, size: 7 } }; };
  return { traces: [part(false, "complete", "--c1", "circle"), part(true, "pruned", "--c2", "x"), { type: "scatter", mode: "lines", name: "best so far", x: running.map((_, i) => i + 1), y: running, hoverinfo: "skip", line: { shape: "hv", color: css("--c3") } }], layout: { xaxis: { title: { text: "trial" } }, yaxis: { title: { text: search.metric } } } };
}, (target) => { target.removeAllListeners?.("plotly_click"); target.on("plotly_click", (event) => { const digest = event.points[0]?.customdata; if (digest) select(digest); }); });

function showSearch() {
  byId("search-note").textContent = theSearch()?.note ?? "";
}

trialPlot("importance", () => {
  const rows = theSearch()?.importance;
  if (!rows?.length) return null;
  const turned = [...rows].reverse();
  return { traces: [{ type: "bar", orientation: "h", y: turned.map((row) => row[0]), x: turned.map((row) => row[1]), marker: { color: css("--c1") }, error_x: { type: "data", symmetric: false, array: turned.map((row) => Math.max(0, row[3] - row[1])), arrayminus: turned.map((row) => Math.max(0, row[1] - row[2])), color: css("--ink") }, hovertemplate: "%{x:.2f}<extra></extra>" }], layout: { xaxis: { range: [0, 1.02], title: { text: "fraction of variance" } }, yaxis: {} } };
});

// --- evidence of the selected trial ---
const evidence = () => state.trial?.evidence?.classes[state.column];
const rates = () => evidence()?.rates;

function showEvidence() {
  const trial = state.trial, none = byId("no-evidence"), has = Boolean(trial.evidence);
  none.hidden = has;
  byId("evidence-parts").hidden = !has;
  if (!has) none.textContent = trial.status === "complete" ? "No curves: this trial was not evaluated on test, or is not among those whose curves the page holds." : `No curves: the trial ${trial.status}. ${trial.facts[0][1]}`;
  if (!has) return;
  const found = evidence(), total = found.positives + found.negatives;
  state.prevalence ??= found.prevalence;
  byId("prevalence").value = (100 * state.prevalence).toPrecision(3);
  byId("threshold").hidden = !found.rates;
  if (found.rates) {
    const slider = byId("slider");
    slider.max = found.rates.threshold.length - 1;
    state.step ??= found.start;
    slider.value = state.step;
    byId("threshold-note").textContent = `${total.toLocaleString("en")} test ${state.comparison.rows_are} of ${found.patients.toLocaleString("en")} patients, ${found.positives.toLocaleString("en")} with the finding. ${found.note}`;
    byId("points").replaceChildren(...found.points.map(([rule, , step], index) => element("button", index ? rule.replace("=", " ") : "threshold of the trial", { type: "button", "data-step": step })));
    showThreshold();
  }
  showSubgroups();
  showGallery();
}

// As in the tables: three digits that are not 0, and of a threshold near 1 that are not 9.
function thresholdText(threshold) {
  const rest = Number(Math.min(threshold, 1 - threshold).toPrecision(3));
  return threshold.toFixed(rest > 0 ? Math.min(9, Math.max(3, 2 - Math.floor(Math.log10(rest)))) : 3);
}

function showThreshold() {
  const all = rates(), i = state.step, found = evidence();
  const tp = all.tp[i], fp = all.fp[i], fn = found.positives - tp, tn = found.negatives - fp, rules = found.points.filter(([, , step]) => step === i).map(([rule]) => rule.replace("_", " "));
  const text = thresholdText(all.threshold[i]) + (rules.length ? ` (${rules.join(", ")})` : "");
  byId("threshold-value").textContent = text;
  byId("slider").setAttribute("aria-valuetext", text);
  const cell = (word, count, of) => `<td style="background: color-mix(in srgb, var(--c1) ${of ? Math.round((45 * count) / of) : 0}%, var(--paper))"><b>${count.toLocaleString("en")}</b>${word} · ${of ? ((100 * count) / of).toFixed(1) : "-"} %</td>`;
  byId("matrix").innerHTML = `<caption hidden>Confusion matrix</caption><tr><td></td><th scope="col">predicted positive</th><th scope="col">predicted negative</th></tr><tr><th scope="row">with the finding</th>${cell("TP", tp, found.positives)}${cell("FN", fn, found.positives)}</tr><tr><th scope="row">without</th>${cell("FP", fp, found.negatives)}${cell("TN", tn, found.negatives)}</tr>`;
  const terms = [["Sensitivity", estimate(all.sensitivity[i])], ["Specificity", estimate(all.specificity[i])], ["PPV in use", estimate(positiveValue(i, state.prevalence))], ["NPV in use", estimate(negativeValue(i, state.prevalence))]];
  byId("rates").replaceChildren(...terms.flatMap(([term, value]) => [element("dt", term), element("dd", value)]));
}

// Ratios of likelihoods come with their intervals; a predictive value rises with its ratio.
function predictive(ratio, odds, predicted) {
  if (!predicted) return null;
  const of = (r) => (r === null ? 1 : (r * odds) / (r * odds + 1));
  return ratio[1] === null ? [of(ratio[0]), null, null] : [of(ratio[0]), of(ratio[1]), of(ratio[2])];
}
function positiveValue(i, prevalence) {
  const all = rates();
  return predictive(all.positive_ratio[i], prevalence / (1 - prevalence), all.tp[i] + all.fp[i]);
}
function negativeValue(i, prevalence) {
  const all = rates(), found = evidence();
  return predictive(all.negative_ratio[i], (1 - prevalence) / prevalence, found.positives - all.tp[i] + found.negatives - all.fp[i]);
}

function showSubgroups() {
  const metrics = ["images", state.trial.evidence.prevalence_head, "AUROC (95 %)", "accuracy (95 %)"];
  const parts = [["By pixel format, on test", ["pixel format", ...metrics], state.trial.evidence.formats], ["By scanner, on test", ["scanner", ...metrics], state.trial.evidence.scanners], ["By class, on test", ["class", "positives", "AUROC (95 %)", "sensitivity (95 %)", "specificity (95 %)"], state.trial.evidence.by_class]];
  byId("subgroups").replaceChildren(...parts.filter(([, , rows]) => rows.length).map(([title, head, rows]) => {
    const box = plainTable([head, ...rows], title);
    box.prepend(element("h3", title));
    return box;
  }));
}

function showGallery() {
  const found = state.trial.mistakes;
  for (const each of [byId("mistakes"), document.querySelector(".side a[href='#mistakes']")]) each.hidden = !DATA.gallery;
  if (!DATA.gallery) return;
  byId("mistakes-note").textContent = DATA.gallery.note;
  byId("gallery").replaceChildren(...(found ?? []).map(([id, label, predicted, probability, tile]) => {
    const item = element("li"), texts = element("div"), picture = DATA.gallery.pictures[`${state.trial.digest} ${id}`];
    if (picture) item.append(element("img", "", { src: picture, alt: `${id} beside its heat map` }));
    else if (tile !== null) item.append(tileOf(tile, `image ${id}`));
    texts.append(element("div", `label ${label}`), element("div", `predicted ${predicted}`), element("div", `probability ${probability}`), element("div", id, { class: "soft" }));
    item.append(texts);
    return item;
  }));
  byId("gallery").classList.toggle("cases", Boolean(found?.some(([id]) => DATA.gallery.pictures[`${state.trial.digest} ${id}`])));
}

function tileOf(tile, label) {
  const made = element("span", "", { class: "tile", role: "img", "aria-label": label });
  made.style.backgroundPosition = `-${(tile % DATA.gallery.columns) * 64}px -${Math.floor(tile / DATA.gallery.columns) * 64}px`;
  return made;
}

const unit = { range: [-0.02, 1.02] };
const band = (x, low, high) => [{ type: "scatter", x, y: low, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false }, { type: "scatter", x, y: high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: css("--band"), hoverinfo: "skip", name: "95 % interval" }];
const ring = (x, y) => ({ type: "scatter", mode: "markers", x: [x], y: [y], name: "threshold", showlegend: false, hoverinfo: "skip", cliponaxis: false, marker: { symbol: "circle-open", size: 13, color: css("--ink"), line: { width: 2.5 } } });
const curveOf = (trial) => trial.evidence?.classes[state.column];

trialPlot("roc", () => {
  const all = rates(), found = evidence();
  if (!all) return null;
  const traces = [{ type: "scatter", x: [0, 1], y: [0, 1], mode: "lines", name: "guessing", hoverinfo: "skip", line: { color: css("--soft"), width: 1, dash: "dot" } }];
  const fpr = all.fp.map((fp) => fp / found.negatives);
  if (all.sensitivity[0][1] !== null) traces.push(...band(fpr, all.sensitivity.map((t) => t[1]), all.sensitivity.map((t) => t[2])));
  shown().forEach((trial, index) => {
    const each = curveOf(trial);
    if (!each?.rates) return;
    traces.push({ type: "scatter", mode: "lines", x: [...each.rates.fp.map((fp) => fp / each.negatives), 0], y: [...each.rates.tp.map((tp) => tp / each.positives), 0], name: escaped(`${short(trial.name, byId("roc").clientWidth < 400 ? 16 : 26)}: ${estimate(each.auroc)}`), line: { color: css(COLOURS[index]), dash: ["solid", "dash", "dashdot"][index], width: 2.2 }, text: [...each.rates.threshold.map((t) => `threshold ${thresholdText(t)}`), "1"], hovertemplate: "%{text}<br>sensitivity %{y:.3f}<br>specificity %{customdata:.3f}<extra></extra>", customdata: [...each.rates.fp.map((fp) => 1 - fp / each.negatives), 1] });
  });
  traces.push(ring(fpr[state.step], all.tp[state.step] / found.positives));
  return { traces, layout: { xaxis: { ...unit, title: { text: "1 - specificity" } }, yaxis: { ...unit, title: { text: "sensitivity" } } } };
});

trialPlot("precision", () => {
  const all = rates(), found = evidence();
  if (!all) return null;
  const prevalence = found.positives / (found.positives + found.negatives), at = all.threshold.map((_, i) => i).filter((i) => all.tp[i] + all.fp[i]);
  const traces = [{ type: "scatter", x: [0, 1], y: [prevalence, prevalence], mode: "lines", name: `prevalence ${(100 * prevalence).toFixed(1)} %`, hoverinfo: "skip", line: { color: css("--soft"), width: 1, dash: "dot" } }];
  const values = at.map((i) => positiveValue(i, prevalence));
  if (values[0][1] !== null) traces.push(...band(at.map((i) => all.tp[i] / found.positives), values.map((v) => v[1]), values.map((v) => v[2])));
  shown().forEach((trial, index) => {
    const each = curveOf(trial);
    if (!each?.rates) return;
    const on = each.rates.threshold.map((_, i) => i).filter((i) => each.rates.tp[i] + each.rates.fp[i]);
    traces.push({ type: "scatter", mode: "lines", x: on.map((i) => each.rates.tp[i] / each.positives), y: on.map((i) => each.rates.tp[i] / (each.rates.tp[i] + each.rates.fp[i])), name: escaped(`${short(trial.name, 26)}: AP ${each.average_precision.toFixed(3)}`), line: { color: css(COLOURS[index]), dash: ["solid", "dash", "dashdot"][index], width: 2.2 }, hovertemplate: "recall %{x:.3f}<br>precision %{y:.3f}<extra></extra>" });
  });
  const i = state.step, predicted = all.tp[i] + all.fp[i];
  if (predicted) traces.push(ring(all.tp[i] / found.positives, all.tp[i] / predicted));
  return { traces, layout: { xaxis: { ...unit, title: { text: "recall (sensitivity)" } }, yaxis: { ...unit, title: { text: "precision (PPV)" } } } };
});

function binsOf(found, name, colour, dash) {
  const known = found.bins.every((bin) => bin[2] !== null), most = Math.max(...found.bins.map((bin) => bin[4]));
  const error = known ? { type: "data", symmetric: false, array: found.bins.map((bin) => bin[3] - bin[1]), arrayminus: found.bins.map((bin) => bin[1] - bin[2]), color: css(colour), thickness: 1.3 } : undefined;
  return { type: "scatter", mode: found.bins.length > 1 ? "lines+markers" : "markers", x: found.bins.map((bin) => bin[0]), y: found.bins.map((bin) => bin[1]), error_y: error, name: `${name}ECE (equal count) ${found.error.toFixed(3)}, Brier ${found.brier.toFixed(3)}`, text: found.bins.map((bin) => `n = ${bin[4].toLocaleString("en")}<br>observed ${estimate(bin.slice(1, 4))}`), hovertemplate: "predicted %{x:.3f}<br>%{text}<extra></extra>", line: { color: css(colour), width: 1.2, dash }, marker: { color: css(colour), symbol: dash === "dot" ? "circle-open" : "circle", size: found.bins.map((bin) => 5 + 5 * Math.sqrt(bin[4] / most)) } };
}

trialPlot("calibration", () => {
  const found = evidence();
  if (!found) return null;
  const traces = [{ type: "scatter", x: [0, 1], y: [0, 1], mode: "lines", name: "perfect", hoverinfo: "skip", line: { color: css("--soft"), width: 1, dash: "dot" } }];
  if (found.trained) traces.push(binsOf(found.trained, "as trained: ", "--c2", "dot"));
  traces.push(binsOf(found.calibration, found.trained ? "calibrated: " : "", "--c1", "solid"));
  return { traces, layout: { xaxis: { ...unit, title: { text: "predicted probability" } }, yaxis: { ...unit, title: { text: "observed frequency" } } } };
});

trialPlot("decision", () => {
  const curve = evidence()?.decision;
  if (!curve) return null;
  const x = curve.map((point) => point[0]), prevalence = evidence().prevalence;
  const traces = [];
  if (curve[0][2] !== null) traces.push(...band(x, curve.map((p) => p[2]), curve.map((p) => p[3])));
  traces.push({ type: "scatter", mode: "lines", name: "the model", x, y: curve.map((p) => p[1]), line: { color: css("--c1"), width: 2.2 } }, { type: "scatter", mode: "lines", name: "act on all", x, y: curve.map((p) => p[4]), line: { color: css("--c2"), dash: "dash" } }, { type: "scatter", mode: "lines", name: "act on none", x: [0, 1], y: [0, 0], line: { color: css("--soft"), dash: "dot" } });
  return { traces, layout: { xaxis: { range: [0, 1], title: { text: "threshold probability" } }, yaxis: { range: [-0.25 * prevalence, 1.1 * prevalence], title: { text: "net benefit" } } } };
});

// --- what ran ---
const commandOf = (trial) => trial.facts.find(([term]) => term === "command")?.[1]; // none of an external model

function showFacts() {
  byId("facts").replaceChildren(...state.trial.facts.flatMap(([term, text]) => { const cell = element("dd"); cell.append(term === "command" ? element("code", text.replaceAll(" --", " \\\n  --")) : text); return [element("dt", term), cell]; }));
  byId("copy").hidden = !commandOf(state.trial);
  byId("copied").textContent = "";
}

// --- controls ---
function listen() {
  byId("table").addEventListener("click", (event) => { const button = event.target.closest("[data-pin]"); if (button) pin(button.dataset.pin); });
  byId("varying").addEventListener("change", (event) => state.comparison.columns.forEach((column, index) => table.column(index + 2).visible(column.varies || !event.target.checked || column.title.startsWith("test"))));
  byId("complete").addEventListener("change", () => { table.draw(); redraw("scatter", "parallel"); });
  byId("clear").addEventListener("click", () => brush(null));
  byId("comparison").addEventListener("change", (event) => { const chosen = DATA.comparisons.find((each) => each.key === event.target.value); select(chosen.best ?? chosen.trials[0].digest); });
  byId("trial").addEventListener("change", (event) => select(event.target.value));
  byId("class").addEventListener("change", (event) => { Object.assign(state, { column: Number(event.target.value), step: null, prevalence: null }); showEvidence(); redraw("roc", "precision", "calibration", "decision"); });
  byId("slider").addEventListener("input", (event) => { state.step = Number(event.target.value); showThreshold(); redraw("roc", "precision"); });
  byId("points").addEventListener("click", (event) => { const step = event.target.dataset.step; if (step) { state.step = Number(step); byId("slider").value = state.step; showThreshold(); redraw("roc", "precision"); } });
  byId("prevalence").addEventListener("input", (event) => { const value = Number(event.target.value) / 100; if (value > 0 && value < 1) { state.prevalence = value; if (rates()) showThreshold(); } });
  byId("which-search").addEventListener("change", () => { showSearch(); redraw("search", "importance"); });
  for (const id of ["scatter-x", "scatter-y"]) byId(id).addEventListener("change", () => redraw("scatter"));
  byId("copy").addEventListener("click", async () => { await navigator.clipboard.writeText(commandOf(state.trial)); byId("copied").textContent = "copied"; });
  addEventListener("hashchange", openLink);
}

function openLink() {
  const digest = /^#trial=(\w+)$/.exec(location.hash)?.[1];
  if (digest && digest !== state.trial?.digest) select(digest);
}

for (const { key, diagrams } of DATA.elsewhere) diagrams.forEach((found, index) => addPlot(`${key}-${index}`, () => {
  const traces = [{ type: "scatter", x: [0, 1], y: [0, 1], mode: "lines", name: "perfect", hoverinfo: "skip", line: { color: css("--soft"), width: 1, dash: "dot" } }, binsOf(found.trained, found.calibrated ? "as is: " : "", found.calibrated ? "--c2" : "--c1", found.calibrated ? "dot" : "solid")];
  if (found.calibrated) traces.push(binsOf(found.calibrated, "recalibrated: ", "--c1", "solid"));
  return { traces, layout: { xaxis: { ...unit, title: { text: "predicted probability" } }, yaxis: { ...unit, title: { text: "observed frequency" } } } };
}));

const started = (async () => {
  if (!DATA.comparisons.length) { document.documentElement.dataset.ready = "true"; return; }
  if (DATA.gallery?.sprite) document.head.append(element("style", `.tile { background-image: url(${DATA.gallery.sprite}); }`));
  TableClass = await dataTables();
  byId("comparison").replaceChildren(...DATA.comparisons.map((each) => new Option(each.subject, each.key)));
  listen();
  openLink();
  const first = DATA.comparisons[0];
  if (!state.trial) select(first.best ?? first.trials[0].digest, false);
  document.documentElement.dataset.ready = "true";
})();
