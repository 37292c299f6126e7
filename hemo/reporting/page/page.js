// What the pages of a study and of a data set share: data, plots in the page's colours, tables, formatted numbers.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

// Plotly and DataTables take text as markup: names come from the user and from files.
const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const short = (text, length = 34) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

function element(tag, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(tag), { textContent: text });
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Two digits of the half-width of an interval, from 2 to 4 decimals, as in the tables.
function decimals(half) {
  return half > 0 ? Math.min(4, Math.max(2, 1 - Math.floor(Math.log10(half)))) : 4;
}

// As in the tables: of two equally near decimals the even one, and no minus before zero.
function fixed(x, digits) {
  const scaled = Math.abs(x) * 10 ** digits, isTie = scaled % 1 === 0.5 && Number.isInteger(x * 2 ** (digits + 1));
  const near = isTie ? ((2 * Math.round(scaled / 2)) / 10 ** digits).toFixed(digits) : Math.abs(x).toFixed(digits);
  return (x < 0 && Number(near) ? "-" : "") + near;
}

function signed(x, digits) {
  const text = fixed(x, digits);
  return (text.startsWith("-") ? "" : "+") + text;
}

function estimate(triple, isDifference = false) {
  if (!triple || triple[0] === null) return "-";
  const [value, low, high] = triple, sign = isDifference ? signed : fixed;
  if (low === null || high === null) return sign(value, 2);
  const digits = decimals((high - low) / 2);
  return `${sign(value, digits)} (${sign(low, digits)}${isDifference ? " to " : "-"}${sign(high, digits)})`;
}

// Intervals, exponents and `3 of 12` stay on one line.
const unbroken = (html) => html.replace(/\([^()]{1,40}\)|[\d.]+e[-+]\d+|\d+ of \d+/g, '<span class="unbroken">$&</span>');

// The first row is the head. A table that goes on to the right scrolls.
function plainTable(rows, label, rowHeads = false) {
  const box = element("div", "", { class: "wide", tabindex: "0", role: "region", "aria-label": label }), made = element("table", "", { class: "plain" });
  rows.forEach((cells, index) => {
    const line = made.insertRow();
    cells.forEach((text, at) => {
      const head = !index ? { scope: "col" } : rowHeads && !at ? { scope: "row" } : null, cell = element(head ? "th" : "td", "", head ?? {});
      cell.innerHTML = unbroken(escaped(text));
      line.append(cell);
    });
  });
  box.append(made);
  return box;
}

// On paper a table that scrolls would be cut: a plain one with fewer rows and columns takes its place.
const PAPER_ROWS = 30;
function showOnPaper(head, rows, more, kind = "") {
  const box = element("div", "", { class: `paper ${kind}` }), left = rows.length - PAPER_ROWS;
  const notes = [...(left > 0 ? [`${left.toLocaleString("en")} more rows`] : []), ...more];
  box.append(plainTable([head, ...rows.slice(0, PAPER_ROWS)], "On paper"));
  if (notes.length) box.append(element("p", `Not on paper: ${notes.join(", ")}.`, { class: "note" }));
  byId("table").closest(".dt-container").after(box);
}

// Plots: drawn when they come into view, and again when the page's colours change.
const PLOTS = new Map();
const visible = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) visible.add(entry.target.id);
    else visible.delete(entry.target.id);
    if (entry.isIntersecting && PLOTS.get(entry.target.id).stale) render(entry.target.id);
  }
}, { rootMargin: "300px" });

// Plotly takes most of the time to open the page, and the summary needs none of it: it starts with the first plot.
function startPlotly() {
  if (!window.Plotly) document.head.append(element("script", byId("plotly").textContent));
}

function addPlot(id, build, after = () => {}) {
  PLOTS.set(id, { build, after, stale: true });
  watcher.observe(byId(id));
}

function render(id) {
  const plot = PLOTS.get(id), target = byId(id);
  startPlotly();
  plot.stale = false;
  const made = plot.build();
  byId(`figure-${id}`).hidden = !made;
  if (!made) return;
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: css("--ink"), size: 12, family: "system-ui, sans-serif" },
    margin: { l: 56, r: 16, t: 30, b: 48 }, hovermode: "closest", hoverlabel: { align: "left" },
    legend: { orientation: "h", y: 1.01, yanchor: "bottom", x: 0, font: { size: 12 } }, ...made.layout,
  };
  for (const [name, axis] of Object.entries(layout)) {
    if (/^[xy]axis/.test(name)) layout[name] = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--soft"), automargin: true, ...axis };
  }
  Plotly.react(target, made.traces, { ...layout, selections: [] }, { responsive: true, displayModeBar: false });
  plot.after(target);
}

function redraw(...ids) {
  for (const id of ids.length ? ids : PLOTS.keys()) {
    PLOTS.get(id).stale = true;
    byId(`figure-${id}`).hidden = false;  // else it would never come into view
    if (visible.has(id)) render(id);
  }
}

function repaint() {
  document.documentElement.classList.toggle("dark", dark.matches && !document.documentElement.classList.contains("print"));
  redraw();
}
dark.addEventListener("change", repaint);
document.documentElement.classList.toggle("dark", dark.matches);
addEventListener("beforeprint", () => { document.documentElement.classList.add("print"); repaint(); for (const id of PLOTS.keys()) if (PLOTS.get(id).stale) render(id); });
addEventListener("afterprint", () => { document.documentElement.classList.remove("print"); for (const each of document.querySelectorAll(".paper")) each.remove(); repaint(); });
document.addEventListener("click", (event) => {
  const id = event.target.closest?.("[data-svg]")?.dataset.svg;
  if (id) Plotly.downloadImage(byId(id), { format: "svg", filename: `hemo-${id}`, width: byId(id).clientWidth, height: byId(id).clientHeight });
});

// The navigation marks the part that is at the top.
const PARTS = [...document.querySelectorAll(".side li a")].map((link) => [link, document.querySelector(link.hash)]);
function markPart() {
  const passed = PARTS.filter(([link, part]) => part && link.offsetParent && part.getClientRects().length && part.getBoundingClientRect().top < innerHeight / 4);
  for (const [link] of PARTS) link.removeAttribute("aria-current");
  passed.at(-1)?.[0].setAttribute("aria-current", "location");
}
let marking = 0;
addEventListener("scroll", () => { marking ||= requestAnimationFrame(() => { marking = 0; markPart(); }); }, { passive: true });

// DataTables comes as a module; a blob runs it without a server.
async function dataTables() {
  const source = JSON.parse(byId("tables-module").textContent);
  const { default: DataTable } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const order = (sign) => (a, b) => (a === null) - (b === null) || sign * (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "number" ? -1 : 1);
  DataTable.type("value", { detect: () => false, order: { asc: order(1), desc: order(-1) }, className: "" });
  return DataTable;
}

// Names as they are, but for an apostrophe before text that a spreadsheet would evaluate.
const noFormula = (text) => (/^[=@\t\r]|^[-+].*[^\d.]/.test(text) ? `'${text}` : text);
const csvButton = (columns = ":visible") => ({ extend: "csvHtml5", text: "CSV", exportOptions: { columns, orthogonal: "export", format: { body: noFormula } } });

// A table that goes on to the right says so.
function hintMore(container) {
  const body = container.querySelector(".dt-scroll-body");
  if (!body) return;
  const update = () => body.parentElement.classList.toggle("more", body.scrollLeft + body.clientWidth < body.scrollWidth - 4);
  body.setAttribute("tabindex", "0");
  body.setAttribute("role", "region");
  body.setAttribute("aria-label", "Table, scrolls sideways");
  body.addEventListener("scroll", update, { passive: true });
  new ResizeObserver(update).observe(body);
  update();
}
