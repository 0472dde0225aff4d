"use strict";
// What an experiment printed or a model wrote is put into the page as text, never as mark-up: `make` has no other way.
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, classes, ...children) => {
    const element = document.createElement(tag);
    if (classes) element.className = classes;
    element.append(...children.filter((child) => child !== null && child !== "")); // strings become text nodes
    return element;
  };
  const PAPER = 680; // pixels: what A4 and Letter have between our margins
  const FOLLOW_MS = 20_000;
  const rows = [...document.querySelectorAll("#table tbody tr")];
  const byId = new Map(rows.map((row) => [Number(row.dataset.id), row]));
  const badge = (row) => row.querySelector(".badge").cloneNode(true);
  const cell = (row, name) => row.querySelector(".c-" + name).textContent;

  // ---- one experiment

  const sheet = $("sheet"), body = $("sheet-body");
  let current = null, opener = null, printing = false;

  const facts = (pairs, classes) => {
    const list = make("dl", classes);
    for (const [name, value, good] of pairs) {
      const mark = good === false ? "weak" : good === true ? "intact" : "";
      list.append(make("div", mark, make("dt", "", name), make("dd", "", value)));
    }
    return list;
  };
  const fold = (title, note, open, ...children) => {
    const details = make("details", "", make("summary", "", title, note ? make("span", "aside", note) : ""), ...children);
    details.open = open;
    return details;
  };
  const gap = (excerpt) => (excerpt.cut ? `${excerpt.cut.toLocaleString("en")} bytes are left out here; the record contains them` : "");
  const text = (excerpt, classes) => {
    if (excerpt.problem) return make("p", "note bad", excerpt.problem);
    const block = make("pre", classes, excerpt.head);
    block.tabIndex = 0;
    if (excerpt.cut) block.append(make("span", "gap", gap(excerpt)), excerpt.tail);
    return block;
  };
  const diff = (excerpt) => {
    if (excerpt.problem) return make("p", "note bad", excerpt.problem);
    if (!excerpt.head) return make("p", "fine", "Nothing: the empty patch.");
    const block = make("pre", "diff");
    block.tabIndex = 0;
    let before = 0, after = 0, added = 0, removed = 0;
    for (const line of excerpt.head.replace(/\n$/, "").split("\n")) {
      const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)/.exec(line);
      const head = !hunk && before === 0;
      let kind = "same", left = "", right = "";
      if (hunk) [before, after, kind] = [Number(hunk[1]) || 1, Number(hunk[2]) || 1, "hunk"];
      else if (head) kind = "file";
      else if (line[0] === "+") [kind, right] = ["added", after++], added++;
      else if (line[0] === "-") [kind, left] = ["removed", before++], removed++;
      else [left, right] = [before++, after++];
      block.append(make("span", "line " + kind, make("span", "no", String(left)), make("span", "no", String(right)), make("span", "code", line || " ")));
    }
    if (excerpt.cut) block.append(make("span", "gap", gap(excerpt)));
    const sums = make("p", "fine sums", make("b", "plus", `+${added}`), " ", make("b", "minus", `−${removed}`), " lines");
    return make("div", "", sums, block);
  };
  const seconds = (value) => (value === null ? "?" : `${value.toFixed(1)} s`);
  let shared = null; // facts that containers have in common
  const container = (found) => {
    shared = shared || JSON.parse($("shared").textContent);
    const known = found.facts.map((number) => shared[number]);
    const asked = found.differences === null ? "what was asked or made is not on record"
      : found.differences.join("\n") || "as asked, in every field that the engine reports";
    const weak = known.filter(([, , good]) => good === false).length || (found.differences || []).length;
    const life = make("span", "life " + found.outcome, found.ended);
    const time = found.deadline_s === null ? "" : make("span", "aside", `${seconds(found.duration_s)} of ${seconds(found.deadline_s)}`);
    const short = (name) => (known.find(([label]) => label === name) || ["", "?"])[1];
    const essence = `network ${short("network")} · user ${short("user")} · root ${short("root file system")} · memory ${short("memory")}`;
    const bar = make("progress", "");
    bar.max = found.deadline_s || 1;
    bar.value = Math.min(found.duration_s || 0, bar.max);
    bar.setAttribute("aria-label", "share of its deadline");
    const list = facts([["program", found.command], ["asked and made", asked, found.differences === null ? null : !found.differences.length],
      ...known], "facts");
    const mounts = make("ul", "mounts", ...found.mounts.map((mount) => make("li", "", mount)));
    return make("details", "container" + (weak ? " weak" : ""),
      make("summary", "", make("b", "", found.role), life, time, bar, make("span", "essence", essence)),
      list, make("h4", "", "mounts"), mounts);
  };
  const trials = (found) => found.flatMap((trial) => [
    trial.name ? make("h4", "", trial.name) : "",
    ...trial.containers.map(container),
  ]);
  const logs = (found) => found.flatMap((trial) => trial.containers.filter((each) => each.log.head || each.log.problem).map((each) =>
    fold((trial.name ? trial.name + " · " : "") + each.role, each.log.cut ? "shortened" : "", each.role === "trainer" && !trial.name, text(each.log, "log"))));
  const printed = (found) => {
    const all = logs(found);
    return all.length ? [section("Output", "only the scorer's numbers count", ...all)] : [];
  };
  const section = (title, note, ...children) => make("section", "", make("h3", "", title, note ? make("span", "aside", note) : ""), ...children);

  const draw = (data) => {
    const parent = make("p", "fine", "Parent: ");
    if (data.parent === null) parent.append("none, this is the baseline.");
    else {
      const link = make("a", "jump", String(data.parent));
      link.href = "#e" + data.parent;
      parent.append("experiment ", link, ".");
    }
    const parts = [
      section("Hypothesis", "", make("p", "say", data.hypothesis), data.expected ? make("p", "fine", "Expected: " + data.expected) : "", parent),
      section("Decision", "", make("p", "decision", data.reason), data.message ? text({ head: data.message }, "log") : ""),
      section("Score, time and cost", "", facts(data.figures, "figures")),
    ];
    for (const problem of data.problems) parts.push(make("p", "note bad", problem));
    if (data.trials) {
      parts.push(section("Diff", "", diff(data.diff)), section("Containers as they ran", "", make("p", "verdict", data.verdict), ...trials(data.trials)),
        ...printed(data.trials));
      if (data.texts.length) parts.push(section("Prompt and reply", "", ...data.texts.map(([name, excerpt]) => fold(name, excerpt.cut ? "shortened" : "", false, text(excerpt, "prose")))));
    }
    parts.push(section("Provenance", "", facts(data.facts, "facts")));
    if (data.files.length) parts.push(section("Files of the record", "", fold(`${data.files.length} files with their sha256`, "", false, facts(data.files, "facts hashes"))));
    body.replaceChildren(...parts);
  };

  const open = (id) => {
    const row = byId.get(id), block = $("d" + id);
    if (!row || !block) return;
    $("sheet-title").textContent = `Experiment ${id}`;
    $("sheet-badge").replaceChildren(badge(row));
    try {
      draw(JSON.parse(block.textContent));
    } catch (error) {
      body.replaceChildren(make("p", "note bad", "This record cannot be shown: " + error.message));
    }
    current = id;
    if (!sheet.open) {
      opener = document.activeElement;
      sheet.showModal();
      document.documentElement.classList.add("reading");
    }
    body.scrollTop = 0;
    $("sheet-title").focus();
  };
  const route = () => {
    const found = /^#e(\d+)$/.exec(location.hash);
    if (found) open(Number(found[1]));
    else if (sheet.open) sheet.close();
  };
  sheet.addEventListener("close", () => {
    if (printing) return;
    document.documentElement.classList.remove("reading");
    if (/^#e/.test(location.hash)) history.replaceState(null, "", "#");
    const row = byId.get(current);
    const back = opener && opener !== document.body && opener.isConnected ? opener : row && row.querySelector("a");
    current = null;
    if (back) back.focus({ preventScroll: back === opener });
  });
  const go = (id) => { location.hash = "#e" + id; };
  const step = (by) => {
    const shown = rows.length ? [...$("table").tBodies[0].rows].filter((row) => !row.hidden).map((row) => Number(row.dataset.id)) : [];
    const at = shown.indexOf(current);
    const next = at < 0 ? current + by : shown[at + by];
    if (byId.has(next)) go(next);
  };
  $("close").addEventListener("click", () => sheet.close());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
  sheet.addEventListener("keydown", (event) => {
    if (event.target.tagName === "PRE" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
  });
  addEventListener("hashchange", route);
  const setFlat = (flat) => { // a dialog is not broken into pages: while the page is printed it is part of the page
    if (!sheet.open) return;
    printing = true;
    sheet.close();
    if (flat) sheet.show();
    else sheet.showModal();
    setTimeout(() => { printing = flat; });
  };
  addEventListener("beforeprint", () => setFlat(true));
  addEventListener("afterprint", () => setFlat(false));

  // ---- the table

  const table = $("table"), chips = [...document.querySelectorAll(".chip")];
  const haystack = new Map(rows.map((row) => [row, `#${row.dataset.id} ${row.textContent}`.toLowerCase()]));
  const filter = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.status);
    let shown = 0;
    for (const row of rows) {
      const fits = (!wanted.length || wanted.includes(row.dataset.status)) && words.every((word) => haystack.get(row).includes(word));
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    $("count").textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
    $("nothing").hidden = shown > 0;
    dim(wanted);
  };
  const value = (row, key) => {
    const found = row.querySelector(".c-" + key), number = found.dataset.v;
    return number === undefined ? found.textContent : number === "" ? null : Number(number);
  };
  const sort = (header) => {
    const down = header.getAttribute("aria-sort") === "ascending", key = header.dataset.key;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
    const keyed = rows.map((row) => [value(row, key), row]);
    keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : compare(a, b))); // no score: last
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  for (const header of table.tHead.rows[0].cells) header.firstElementChild.addEventListener("click", () => sort(header));
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  $("search").addEventListener("input", filter);
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a") && !String(getSelection())) { row.querySelector("a").focus(); go(row.dataset.id); }
  });
  table.tBodies[0].addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const next = shown[shown.indexOf(event.target.closest("tr")) + by];
    if (next) { event.preventDefault(); next.querySelector("a").focus(); }
  });

  // ---- the plots

  const tip = $("tip");
  const point = (id, x, y) => {
    const row = byId.get(id);
    if (!row) return;
    const numbers = [cell(row, "score") || "no score", cell(row, "delta") && `Δ ${cell(row, "delta")}`, cell(row, "time"), cell(row, "cost")];
    tip.replaceChildren(make("p", "", make("b", "", `#${id} `), badge(row)), make("p", "num", numbers.filter(Boolean).join(" · ")),
      make("p", "", row.querySelector(".idea").textContent.slice(0, 240)));
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - width - 8)) + "px";
    tip.style.top = Math.max(8, y + height + 24 > innerHeight ? y - height - 14 : y + 14) + "px";
  };
  const chart = $("best"), bars = $("outcomes");
  const plots = JSON.parse($("plots").textContent);
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize", showTips: false };
  const dim = (wanted) => {
    for (const trace of plots.best.data) {
      if (!trace.customdata) continue;
      for (const found of chart.querySelectorAll(`.trace${CSS.escape(trace.uid)}`)) found.classList.toggle("dim", wanted.length > 0 && !wanted.includes(trace.uid));
    }
  };
  const cursor = { at: -1, ids: rows.map((row) => Number(row.dataset.id)) };
  const place = (id) => {
    for (const trace of chart._fullData || []) {
      const index = (trace.customdata || []).indexOf(id);
      if (index < 0) continue;
      const box = chart.getBoundingClientRect(), x = trace._xA || chart._fullLayout.xaxis, y = chart._fullLayout[trace.yaxis === "y2" ? "yaxis2" : "yaxis"];
      return [box.left + x._offset + x.d2p(trace.x[index]), box.top + y._offset + y.d2p(trace.y[index])];
    }
    return null;
  };
  chart.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by) {
      cursor.at = Math.max(0, Math.min(cursor.ids.length - 1, by === -Infinity ? 0 : by === Infinity ? cursor.ids.length - 1 : cursor.at + by));
      const id = cursor.ids[cursor.at], at = place(id), row = byId.get(id);
      if (at) point(id, ...at);
      $("live").textContent = `Experiment ${id}, ${row.dataset.status}, ${cell(row, "score")}, ${row.querySelector(".idea").textContent}`;
      event.preventDefault();
    } else if (event.key === "Enter" && cursor.at >= 0) go(cursor.ids[cursor.at]);
    else if (event.key === "Escape") tip.hidden = true;
  });
  chart.addEventListener("blur", () => { tip.hidden = true; });
  const resize = (width) => { // plots do not follow the width of paper by themselves
    for (const plot of [chart, bars]) if (plot.layout) Plotly.relayout(plot, width ? { width, autosize: false } : { width: null, autosize: true });
  };
  addEventListener("beforeprint", () => resize(PAPER));
  addEventListener("afterprint", () => resize(0));
  filter();
  if (window.Plotly && rows.length) {
    const drawn = Plotly.newPlot(chart, plots.best.data, plots.best.layout, config).then(() => {
      chart.on("plotly_hover", (event) => {
        const found = event.points.find((each) => each.customdata !== undefined);
        if (found) point(found.customdata, event.event.clientX, event.event.clientY);
        chart.classList.toggle("pointing", Boolean(found));
      });
      chart.on("plotly_unhover", () => { tip.hidden = true; chart.classList.remove("pointing"); });
      chart.on("plotly_click", (event) => {
        const found = event.points.find((each) => each.customdata !== undefined);
        if (found) { tip.hidden = true; go(found.customdata); }
      });
      filter();
    });
    Plotly.newPlot(bars, plots.outcomes.data, plots.outcomes.layout, { ...config, staticPlot: true }).then(() => drawn).then(() => {
      performance.mark("drawn");
      for (const trace of bars.querySelectorAll(".barlayer .trace")) {
        [...trace.querySelectorAll(".point")].forEach((bar, index) => bar.classList.add("s-" + plots.outcomes.data[0].y[index]));
      }
    });
  }
  if ("live" in document.documentElement.dataset) { // the file is written again after every experiment
    setInterval(() => {
      const reading = sheet.open || $("search").value || document.activeElement !== document.body || String(getSelection());
      if (!reading && tip.hidden && !document.hidden) location.reload();
    }, FOLLOW_MS);
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  route();
})();
