// The page of a data set: contact sheets, histograms, rejects.
"use strict";
// A value that all have is a bar in the middle, as it has no neighbours.
const alone = ([low, high]) => [low - 3 * (high - low), high + 3 * (high - low)];

function addHistogram(each, index) {
  addPlot(`histogram-${index}`, () => ({
    traces: [{ type: "bar", x: each.counts.map((_, i) => (each.edges[i] + each.edges[i + 1]) / 2), y: each.counts, width: each.counts.map((_, i) => each.edges[i + 1] - each.edges[i]), marker: { color: css("--c1"), line: { color: css("--paper"), width: 0.5 } }, hovertemplate: "%{x:.3g}: %{y:,}<extra></extra>" }],
    layout: { bargap: 0, margin: { l: 56, r: 16, t: 8, b: 48 }, xaxis: { title: { text: each.unit }, ...(each.counts.length > 1 ? {} : { range: alone(each.edges) }) }, yaxis: { title: { text: "count" } } },
  }));
}

function tile([number, id]) {
  const picture = element("span", "", { class: "tile", role: "img", "aria-label": id, tabindex: "-1", title: id });
  picture.style.backgroundPosition = `-${(number % DATA.gallery.columns) * 64}px -${Math.floor(number / DATA.gallery.columns) * 64}px`;
  return picture;
}

function cell(tiles, caption) {
  const made = element("li", "", caption ? { class: "pair" } : {});
  made.append(...tiles.map(tile));
  if (caption) made.append(element("p", caption));
  return made;
}

function showSheet() {
  const sheet = DATA.sheets[Number(byId("sheet").value)];
  byId("sheet-note").textContent = `${sheet.kind} ${sheet.name}: ${sheet.tiles.length.toLocaleString("en")} of ${sheet.count.toLocaleString("en")} images`;
  const pairs = sheet.pairs?.map((caption, index) => cell(sheet.tiles.slice(2 * index, 2 * index + 2), caption));
  byId("tiles").replaceChildren(...(pairs ?? sheet.tiles.map((each) => cell([each]))));
  byId("tiles").querySelector(".tile").tabIndex = 0;
}

// The sheet is one stop of the tab key; within it the arrow keys move.
const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
function moveInSheet(event) {
  const step = STEPS[event.key], all = [...byId("tiles").querySelectorAll(".tile")], at = all.indexOf(event.target);
  if (!step || at < 0) return;
  event.preventDefault();
  const down = event.key === "ArrowDown" || event.key === "ArrowUp", top = all[0].getBoundingClientRect().top;
  const across = down ? all.filter((each) => each.getBoundingClientRect().top === top).length : 1;
  const next = all[Math.max(0, Math.min(all.length - 1, at + step * across))];
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

(async () => {
  if (DATA.sheets.length) {
    document.head.append(element("style", `.tile { background-image: url(${DATA.gallery.sprite}); }`));
    const kinds = new Map();
    DATA.sheets.forEach((sheet, index) => { if (!kinds.has(sheet.kind)) kinds.set(sheet.kind, element("optgroup", "", { label: sheet.kind })); kinds.get(sheet.kind).append(new Option(`${sheet.kind} ${sheet.name} (${sheet.count.toLocaleString("en")})`, index)); });
    byId("sheet").append(...kinds.values());
    byId("sheet").addEventListener("change", showSheet);
    byId("tiles").addEventListener("keydown", moveInSheet);
    for (const event of ["mouseover", "focusin"]) byId("tiles").addEventListener(event, (moved) => { const name = moved.target.getAttribute("aria-label"); if (name) byId("tile-name").textContent = name; });
    byId("sheet").value = DATA.sheets.findIndex((sheet) => sheet.tiles.length === Math.max(...DATA.sheets.map((each) => each.tiles.length)));
    showSheet();
  }
  if (DATA.rejects) {
    const DataTable = await dataTables();
    const table = new DataTable(byId("table"), { data: DATA.rejects.rows, columns: DATA.rejects.columns.map((name) => ({ title: name.replace("_", " "), render: (value, type) => (type === "display" ? escaped(value) : value) })), deferRender: true, autoWidth: false, scrollX: true, pageLength: 15, layout: { topStart: { buttons: [csvButton()] }, topEnd: { search: { placeholder: "reason or path" } } }, language: { search: "Search" } });
    hintMore(table.table().container());
    addEventListener("beforeprint", () => showOnPaper(DATA.rejects.columns.map((name) => name.replace("_", " ")), table.rows({ search: "applied", order: "applied" }).data().toArray(), [], "text"));
  }
  document.documentElement.dataset.ready = "true";
  DATA.histograms.forEach(addHistogram);  // last: plotly takes as long to start as all the rest
})();
