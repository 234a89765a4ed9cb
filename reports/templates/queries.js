"use strict";
{
  const data = JSON.parse(document.getElementById("query-data").textContent);
  const byId = id => document.getElementById(id);
  const list = byId("queries"), more = byId("queries-more"), also = byId("query-also");
  const PAGE = 25;
  let matching = [], drawn = 0;

  // Every text goes through here: textContent, never markup.
  function make(tag, kind, ...inside) {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    element.append(...inside);
    return element;
  }

  // Right to left where the text is, and ids are not part of it: else "…" would hide the beginning of a line.
  function reading(element, way = "auto") {
    element.dir = way;
    return element;
  }

  // A thumbnail that was made for this page, and nothing else.
  function picture(source, text) {
    const image = make("img", "thumb");
    if (!source.startsWith("data:image/jpeg;base64,")) return "";
    image.src = source;
    image.alt = text;
    image.loading = "lazy";
    return image;
  }

  const score = (query, cell) => query.cells[cell][0];
  const spread = query => {
    const scores = data.models.map(cell => score(query, cell));
    return Math.max(...scores) - Math.min(...scores);
  };
  const best = query => Math.max(...data.models.map(cell => score(query, cell)));
  const orders = {
    worst: (a, b) => score(a, data.picked) - score(b, data.picked) || best(b) - best(a),
    apart: (a, b) => spread(b) - spread(a),
    failed: (a, b) => b.failed - a.failed || best(a) - best(b),
    given: () => 0,
  };

  function gradesOf(query) {
    const grades = new Map();
    for (let at = 0; at < query.grades.length; at += 2) grades.set(query.grades[at], query.grades[at + 1]);
    return grades;
  }

  function hit(place, grades) {
    const [id, text, source] = data.documents[place];
    const known = grades.has(place), grade = grades.get(place);
    const chip = make("span", `grade${known ? grade > 0 ? "" : " zero" : " unknown"}`);
    chip.append(make("span", "unseen", known ? "grade " : "not judged"), known ? String(grade) : "");
    const seen = source ? [picture(source, text || `image of ${id}`)] : [];
    return make("li", "", chip, ...seen, reading(make("span", "text", reading(make("span", "id", id), "ltr"), ` ${text}`)));
  }

  function hits(places, grades, kind) {
    return make("ol", `hits ${kind}`, ...places.map(place => hit(place, grades)));
  }

  function found(query, cell, grades) {
    const [value, places] = query.cells[cell];
    const title = make("h3", "", `${data.cells[cell]} `, make("span", "score", `${data.measure} ${value.toFixed(3)}`));
    const rest = places.length ? hits(places, grades, "") : make("p", "soft small", "found nothing");
    return make("div", "", title, rest);
  }

  function inside(query) {
    const grades = gradesOf(query);
    const cells = data.cells.map((_, at) => at).filter(at => at < data.shown || String(at) === also.value);
    const labels = [`id: ${query.id}`, ...query.labels.map(at => data.labels[at])].join(" · ");
    const box = make("div", "inside", make("p", "soft small", labels), make("h3", "", "Judged"), hits(query.judged, grades, "judged"));
    if (query.picture) box.prepend(picture(query.picture, query.text || `image of ${query.id}`));
    if (query.more) box.append(make("p", "soft small", `and ${query.more} more`));
    box.append(make("div", "found", ...cells.map(cell => found(query, cell, grades))));
    return box;
  }

  function item(query) {
    const asked = reading(make("span", "asked", query.text || query.id));
    const value = make("span", "score", make("span", "unseen", `${data.measure} of ${data.cells[data.picked]} `), score(query, data.picked).toFixed(3));
    const summary = make("summary", "", asked, ...(query.failed ? [make("span", "failed", "failed by all")] : []), value);
    const details = make("details", "query", summary);
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector(".inside")) details.append(inside(query));
    });
    return details;
  }

  function drawMore() {
    const next = matching.slice(drawn, drawn + PAGE);
    list.append(...next.map(item));
    drawn += next.length;
    more.hidden = drawn >= matching.length;
    const kept = matching.length === data.queries.length ? "" : ` of ${data.queries.length}`;
    const some = drawn < matching.length ? `, the first ${drawn} shown` : "";
    byId("queries-shown").textContent = `${matching.length}${kept} queries${some}; the figure is the ${data.measure} of ${data.cells[data.picked]}.`;
  }

  function draw() {
    const words = byId("query-text").value.trim().toLowerCase();
    const failed = byId("query-failed").checked;
    matching = data.queries.filter(query => (!failed || query.failed) && `${query.text} ${query.id}`.toLowerCase().includes(words));
    matching.sort(orders[byId("query-order").value]);
    list.replaceChildren();
    drawn = 0;
    drawMore();
  }

  if (data.queries.length) {
    data.cells.slice(data.shown).forEach((name, at) => {
      const option = make("option", "", name);
      option.value = String(at + data.shown);
      also.append(option);
    });
    also.parentElement.hidden = data.cells.length === data.shown;
    const form = byId("query-filters");
    form.hidden = false;
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("input", draw);
    more.addEventListener("click", drawMore);
    draw();
  }
}
