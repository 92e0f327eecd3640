// What the page cannot do without a script: sort tables, switch tabs, name the curve under the pointer, filter settings.
// Everything is drawn already; without this file the page still reads and prints.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const number = (value) => Number(value.toPrecision(3)).toString();

  // ---- Tables: a heading sorts, the best first for numbers; missing values always come last.
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const headings = all("thead th", table);
    const rows = [...body.rows];
    headings.forEach((heading, column) => {
      const button = heading.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const numeric = heading.classList.contains("n");
        const was = heading.getAttribute("aria-sort");
        const up = was === "none" ? !numeric : was === "descending";
        const key = (row) => {
          const cell = row.cells[column];
          if (!numeric) return cell.textContent.trim().toLowerCase();
          return cell.dataset.value === "" ? null : Number(cell.dataset.value);
        };
        const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
        const keyed = rows.map((row) => [key(row), row]);
        keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : compare(a, b) * (up ? 1 : -1)));
        body.append(...keyed.map(([, row]) => row));
        headings.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      });
    });
    if (rows.length > Number(table.dataset.show || Infinity)) showFew(table, rows.length);
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

  // ---- Studies: the legend shows and hides them in every chart.
  for (const button of all(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const line of all(`.series[data-study="${button.dataset.study}"][data-trial]`)) line.classList.toggle("off", !shown);
    });
  }

  // ---- The trial under the pointer: named beside it, and marked in every chart and table.
  const byTrial = new Map();
  for (const element of all("[data-trial]")) {
    if (!byTrial.has(element.dataset.trial)) byTrial.set(element.dataset.trial, []);
    byTrial.get(element.dataset.trial).push(element);
  }
  let marked = null;
  function mark(trial) {
    if (trial === marked) return;
    for (const element of byTrial.get(marked) || []) element.classList.remove("on");
    for (const element of byTrial.get(trial) || []) {
      element.classList.add("on");
      // SVG has no z-index: the last one lies on top.
      if (element.tagName === "path") element.parentNode.append(element);
    }
    document.body.classList.toggle("dim", Boolean(trial));
    marked = trial;
  }
  const tip = document.getElementById("tip");
  function tell(text, event) {
    tip.textContent = text;
    tip.hidden = false;
    const right = event.clientX + 16 + tip.offsetWidth > innerWidth;
    tip.style.left = `${Math.max(4, right ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 4))}px`;
  }

  const points = (line) => line.points ??= [...line.getAttribute("d").matchAll(/[ML]([-\d.]+),([-\d.]+)/g)].map((m) => [+m[1], +m[2]]);

  // Distance in pixels from (x, y), given in the SVG's 1000 x 1000, and the point of the line that is meant.
  function near(line, x, y, box) {
    const spots = points(line);
    const scaled = ([px, py]) => Math.hypot((px - x) * box.width, (py - y) * box.height) / 1000;
    if (line.classList.contains("point") || spots.length === 1) return [scaled(spots[0]), spots[0]];
    const i = spots.findIndex(([px]) => px >= x);
    if (i < 0) return [scaled(spots.at(-1)), spots.at(-1)];
    if (i === 0) return [scaled(spots[0]), spots[0]];
    const [[x0, y0], [x1, y1]] = [spots[i - 1], spots[i]];
    const on = y0 + ((y1 - y0) * (x - x0)) / (x1 - x0);
    // Across the line, not straight down: steep curves would be hard to meet.
    const slope = ((y1 - y0) * box.height) / ((x1 - x0) * box.width);
    return [(Math.abs(on - y) * box.height) / 1000 / Math.hypot(1, slope), x - x0 < x1 - x ? spots[i - 1] : spots[i]];
  }

  for (const plot of all(".plot")) {
    const lines = all(".series[data-label]", plot);
    const trials = new Set(lines.map((line) => line.dataset.trial));
    if (trials.size > 40) plot.classList.add("many");
    const [x0, x1] = (plot.dataset.x || "").split(" ").map(Number);
    const [y0, y1] = (plot.dataset.y || "").split(" ").map(Number);
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 1000;
      const y = ((event.clientY - box.top) / box.height) * 1000;
      let best = [24, null, null];
      for (const line of lines) {
        if (line.classList.contains("off") || line.classList.contains("out")) continue;
        const [distance, spot] = near(line, x, y, box);
        if (distance < best[0]) best = [distance, spot, line];
      }
      const [, spot, line] = best;
      if (!line) { mark(null); tip.hidden = true; return; }
      mark(line.dataset.trial || null);
      let text = line.dataset.label;
      if (line.classList.contains("line")) {
        const value = y0 + (1 - spot[1] / 1000) * (y1 - y0);
        text += `\n${plot.dataset.xTitle} ${Math.round(x0 + (spot[0] / 1000) * (x1 - x0))}: ${number(value)}`;
      }
      tell(text, event);
    });
    plot.addEventListener("pointerleave", () => { mark(null); tip.hidden = true; });
  }
  for (const row of all("#trials tbody tr")) {
    row.addEventListener("pointerenter", () => mark(row.dataset.trial));
    row.addEventListener("pointerleave", () => mark(null));
  }

  // ---- Parallel coordinates: a range on each axis, by dragging or by arrow keys; shares from the bottom, 0 to 1.
  for (const plot of all("[data-parallel]")) {
    const lines = all(".series", plot);
    const kept = plot.closest(".panel").querySelector(".kept");
    const ranges = new Map();
    const apply = () => {
      let count = 0;
      for (const line of lines) {
        const inside = [...ranges].every(([i, [low, high]]) => {
          const share = 1 - points(line)[i][1] / 1000;
          return share >= low - 1e-3 && share <= high + 1e-3;
        });
        line.classList.toggle("out", !inside);
        count += inside;
      }
      kept.textContent = ranges.size ? `${count} of ${lines.length} trials kept` : "";
    };
    all(".axis", plot).forEach((axis, i) => {
      const brush = axis.querySelector(".brush");
      const set = (range) => {
        if (range) ranges.set(i, range); else ranges.delete(i);
        brush.hidden = !range;
        if (range) { brush.style.bottom = `${100 * range[0]}%`; brush.style.top = `${100 * (1 - range[1])}%`; }
        apply();
      };
      const share = (event) => {
        const box = axis.getBoundingClientRect();
        return Math.min(1, Math.max(0, 1 - (event.clientY - box.top) / box.height));
      };
      let from = null;
      axis.addEventListener("pointerdown", (event) => { from = share(event); axis.setPointerCapture(event.pointerId); });
      axis.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const to = share(event);
        if (Math.abs(to - from) > 0.01) set([Math.min(from, to), Math.max(from, to)]);
      });
      axis.addEventListener("pointerup", (event) => {
        if (from !== null && Math.abs(share(event) - from) <= 0.01) set(null);
        from = null;
      });
      axis.addEventListener("pointercancel", () => { from = null; });
      axis.addEventListener("keydown", (event) => {
        if (event.key === "Escape") return set(null);
        const step = { ArrowUp: 0.05, ArrowDown: -0.05 }[event.key];
        if (!step) return undefined;
        event.preventDefault();
        const [low, high] = ranges.get(i) || [0, 1];
        const end = (value, floor, ceiling) => Math.min(ceiling, Math.max(floor, value));
        return set(event.shiftKey ? [low, end(high + step, low, 1)] : [end(low + step, 0, high), high]);
      });
    });
  }
})();
