// What the page cannot do without a script: sort tables, switch tabs, and have Plotly draw the charts.
// Without it all tables and pictures still read and print.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- Tables: a heading sorts, the best first for numbers (less is better where data-lower says so); missing values
  // always come last. Where an entry has several rows it is a body of its own, and its first row is sorted by.
  for (const table of all("table.sortable")) {
    const grouped = table.classList.contains("grouped");
    const headings = all("thead th", table);
    const entries = grouped ? [...table.tBodies] : [...table.tBodies[0].rows];
    headings.forEach((heading, column) => {
      const button = heading.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const numeric = heading.classList.contains("n");
        const was = heading.getAttribute("aria-sort");
        const up = was === "none" ? !numeric || "lower" in heading.dataset : was === "descending";
        const key = (entry) => {
          const cell = (grouped ? entry.rows[0] : entry).cells[column];
          if (!numeric) return cell.textContent.trim().toLowerCase();
          return cell.dataset.value === "" ? null : Number(cell.dataset.value);
        };
        const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
        const keyed = entries.map((entry) => [key(entry), entry]);
        keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b) * (up ? 1 : -1)));
        (grouped ? table : table.tBodies[0]).append(...keyed.map(([, entry]) => entry));
        headings.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      });
    });
    if (entries.length > Number(table.dataset.show || Infinity)) showFew(table, entries.length);
  }

  function showFew(table, count) {
    const more = document.createElement("button");
    more.type = "button";
    more.className = "more";
    const toggle = () => {
      const few = table.classList.toggle("few");
      more.textContent = few ? `Show all ${count}` : `Show ${table.dataset.show}`;
    };
    more.addEventListener("click", toggle);
    table.parentElement.after(more);
    toggle();
  }

  // ---- Tabs.
  for (const box of all(".tabbed")) {
    const own = (element) => element.closest(".tabbed") === box; // tabs may stand within a tab
    const buttons = all(".tabs button", box).filter(own);
    const panels = all(".panel", box).filter(own);
    buttons.forEach((button, chosen) => button.addEventListener("click", () => {
      buttons.forEach((other, i) => other.setAttribute("aria-pressed", String(i === chosen)));
      panels.forEach((panel, i) => { panel.hidden = i !== chosen; });
    }));
  }

  // ---- Charts: drawn when they come into view, since a page may hold a hundred of them.
  const root = document.documentElement;
  const coarse = matchMedia("(pointer: coarse)").matches;
  const boxes = all(".figure");
  const hidden = new Set(); // studies, by number

  // The figure of a box, in the colours that the page has now.
  function read(box) {
    const style = getComputedStyle(root);
    const resolved = (key, value) => (/color|^\d+$|shadow/.test(key) && typeof value === "string"
      ? value.replaceAll(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim()) : value);
    const { data, layout } = JSON.parse(box.parentElement.querySelector("script").textContent, resolved);
    const stops = ["--pale", "--middle", "--strong"].map((name) => channels(style.getPropertyValue(name).trim()));
    for (const trace of data) {
      if (trace.meta && "tone" in trace.meta) trace.line.color = mixed(stops, trace.meta.tone);
      trace.visible = !hidden.has(trace.meta?.study);
    }
    return [data, layout];
  }

  const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  function mixed(stops, part) {
    const i = part < 0.5 ? 0 : 1;
    return `rgb(${stops[i].map((from, c) => Math.round(from + (stops[i + 1][c] - from) * (2 * part - i)))})`;
  }

  function draw(box) {
    const [data, layout] = read(box);
    const filters = layout.dragmode === "select";
    // A finger scrolls the page; to zoom or to filter it takes the buttons over the chart.
    if (coarse) layout.dragmode = false;
    layout.width = box.clientWidth;
    layout.height ??= box.clientHeight;
    if (filters) filter(box, data, layout.selections = box.layout?.selections || []);
    const buttons = [["toImage"], filters ? ["select2d"] : ["zoom2d", "pan2d", "resetScale2d"]];
    const first = !box.data;
    Plotly.react(box, data, layout, { displaylogo: false, modeBarButtons: buttons, doubleClick: filters ? false : "reset+autosize" });
    if (first) listen(box, filters);
  }

  function listen(box, filters) {
    box.on("plotly_hover", ({ points: [point] }) => show(box, point.data.meta?.trial));
    box.on("plotly_unhover", () => show(box, null));
    if (filters) box.on("plotly_relayout", () => draw(box));
  }

  const own = new WeakMap(); // the opacity that a trace has by itself

  // The trials beside the one under the pointer step back.
  function show(box, trial) {
    const shown = box.data.flatMap((trace, i) => (trace.meta?.trial ? [i] : []));
    if (!shown.length) return;
    const opacity = shown.map((i) => {
      const trace = box.data[i];
      if (!own.has(trace)) own.set(trace, trace.opacity);
      return !trial ? own.get(trace) : trace.meta.trial === trial ? 1 : Math.min(own.get(trace), 0.15);
    });
    Plotly.restyle(box, { opacity }, shown);
  }

  // Keeps the trials that pass the boxes that were drawn, one of those over each axis that has any; the others are nearly
  // gone, and nameless.
  function filter(box, data, selections) {
    const ranges = new Map();
    for (const { x0, x1, y0, y1 } of selections) {
      const last = Math.max(x0, x1);
      for (let axis = Math.max(0, Math.ceil(Math.min(x0, x1))); axis <= last; axis += 1) {
        ranges.set(axis, [...(ranges.get(axis) || []), [Math.min(y0, y1), Math.max(y0, y1)]]);
      }
    }
    const passes = ({ x, y }) => [...ranges].every(([axis, pairs]) => {
      const height = y[x.indexOf(axis)];
      return height === undefined || pairs.some(([low, high]) => height >= low && height <= high);
    });
    const trials = data.filter((trace) => trace.meta?.trial);
    const out = trials.filter((trace) => !passes(trace));
    for (const trace of out) Object.assign(trace, { opacity: 0.04, hovertemplate: "", hoverinfo: "skip" });
    const told = box.closest(".panel").querySelector(".kept");
    told.textContent = ranges.size ? `${trials.length - out.length} of ${trials.length} trials kept` : "";
    if (!ranges.size) return;
    const clear = document.createElement("button");
    Object.assign(clear, { type: "button", className: "more", textContent: "Show all" });
    clear.addEventListener("click", () => Plotly.relayout(box, { selections: [] }));
    told.append(" ", clear);
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      draw(target);
    }
  }, { rootMargin: "300px" });
  const refresh = () => boxes.forEach((box) => { watcher.unobserve(box); watcher.observe(box); });
  refresh();

  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; refresh(); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  addEventListener("beforeprint", () => { root.classList.add("printing"); boxes.forEach(draw); });
  addEventListener("afterprint", () => { root.classList.remove("printing"); refresh(); });

  // ---- Studies: the legend shows and hides them in every chart.
  for (const button of all(".legend button")) {
    button.addEventListener("click", () => {
      const study = Number(button.dataset.study);
      if (!hidden.delete(study)) hidden.add(study);
      button.setAttribute("aria-pressed", String(!hidden.has(study)));
      refresh();
    });
  }
})();
