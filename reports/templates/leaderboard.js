"use strict";
{
  const table = document.getElementById("leaderboard");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const slices = JSON.parse(document.getElementById("slice-data").textContent);
  const byId = id => document.getElementById(id);
  const model = byId("filter-model"), dim = byId("filter-dim"), precision = byId("filter-precision"), slice = byId("filter-slice");
  const barAt = heads.findIndex(head => head.classList.contains("bar"));
  const intervalAt = heads.findIndex(head => head.classList.contains("interval"));

  const number = (row, at) => "number" in row.cells[at].dataset ? Number(row.cells[at].dataset.number) : null;
  const text = (row, at) => row.cells[at].textContent.trim();

  function sort() {
    const at = heads.findIndex(head => head.hasAttribute("aria-sort"));
    if (at < 0) return;
    const sign = heads[at].getAttribute("aria-sort") === "descending" ? -1 : 1;
    const numeric = rows.some(row => number(row, at) !== null);
    const ordered = [...rows].sort((a, b) => {
      if (!numeric) return sign * text(a, at).localeCompare(text(b, at));
      const x = number(a, at), y = number(b, at);
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (x - y);
    });
    body.append(...ordered);
  }

  function press(head, at) {
    const now = head.getAttribute("aria-sort");
    const numeric = rows.some(row => number(row, at) !== null);
    const descending = now ? now === "ascending" : numeric || head.classList.contains("mark");
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sort();
  }

  function showSlice() {
    const figures = slices[Number(slice.value)];
    const top = Math.max(...figures.map(([, , high]) => high));
    const percent = value => `${top ? (100 * value / top).toFixed(1) : 0}%`;
    for (const row of rows) {
      const [mean, low, high, interval] = figures[Number(row.dataset.at)];
      const cell = row.cells[barAt];
      cell.dataset.number = mean;
      cell.querySelector(".figure").textContent = mean.toFixed(4);
      for (const [name, value] of [["share", mean], ["low", low], ["high", high]]) cell.style.setProperty(`--${name}`, percent(value));
      if (intervalAt >= 0) row.cells[intervalAt].textContent = interval;
    }
    sort();
  }

  function keeps(row) {
    if (!text(row, 0).toLowerCase().includes(model.value.trim().toLowerCase())) return false;
    if (precision.value && row.dataset.precision !== precision.value) return false;
    return !dim.value || (dim.value === "best" ? "best" in row.dataset : row.dataset.dim === dim.value);
  }

  function filter() {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !keeps(row);
      shown += !row.hidden;
    }
    const part = slice.value === "0" ? "all queries" : slice.selectedOptions[0].textContent;
    const rest = slice.value === "0" ? "" : " The other columns and the marks are of all queries.";
    byId("shown").textContent = `${shown} of ${rows.length} variants, on ${part}.${rest}`;
  }

  heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => press(head, at)));
  const form = byId("filters");
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", event => {
    if (event.target === slice) showSlice();
    filter();
  });
  form.querySelector("button").addEventListener("click", () => {
    form.reset();
    showSlice();
    filter();
  });
  form.hidden = rows.length === 0;

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("section > details:not([open])")];
    opened.forEach(one => { one.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach(one => { one.open = false; }));
}
