"use strict";
// What the server sends is a list of changes: see feed.py. Texts become text nodes and never HTML, so nothing that a
// worker or a job is called can be more than a text here.

const $ = (id) => document.getElementById(id);
const KINDS = { "#": "counted", "+": "partly", "-": "waiting", ".": "uncut" };
const WORKER = [ // title, right, only where there is room
  ["state", false, false], ["job", false, false], ["tasks/s", true, false], ["for", true, true],
  ["done", true, true], ["memory", true, true], ["cpu", true, true], ["held", true, true], ["seen", true, false],
  ["terms", false, true], ["version", false, true]];
const lists = Object.fromEntries(["jobs", "workers", "events"].map((name) => [name, { rows: new Map(), order: [] }]));

function el(tag, how, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(how || {})) {
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...inner.filter((one) => one !== null && one !== undefined && one !== ""));
  return made;
}
const ink = (style) => (style || "").split(" ").filter(Boolean).map((word) => "ink-" + word).join(" ");
const to = (kind, id, text) => el("a", { class: "row", href: `#${kind}/${encodeURIComponent(id)}` }, text);
const bar = (share) => el("progress", { max: 1, value: share, "aria-label": "counted" });

// -- rows -------------------------------------------------------------------------------------------------------------

const draw = {
  jobs(id, row) {
    const state = el("span", { class: "state " + ink(row.style) }, row.mark + " " + row.state, " ");
    if (row.share !== undefined && row.share !== null) state.append(bar(row.share), " ");
    if (row.progress) state.append(row.progress);
    const numbers = row.ended ? [row.terms + " terms", row.time] : [row.terms, row.rate, row.left || row.time, row.workers];
    const about = [row.what, row.by && "by " + row.by].filter(Boolean).join(" · ");
    return el("li", {}, to("job", id, row.name), state,
      el("span", { class: "value " + (row.bad ? "ink-red" : "") , title: row.value }, row.value),
      el("span", { class: "numbers number dim" }, numbers.filter(Boolean).join(" · ")),
      el("span", { class: "about dim" }, about),
      row.remedy ? el("span", { class: "remedy ink-magenta" }, row.remedy) : null);
  },
  workers(id, row) {
    const made = el("tr", {}, el("td", {}, to("worker", id, row.name)));
    for (const [title, right, wide] of WORKER) {
      const how = [right ? "number" : "", wide ? "wide" : "", title === "state" || row.state === "dead" ? ink(row.style) : ""];
      made.append(el("td", { class: how.filter(Boolean).join(" ") }, row[title] || ""));
    }
    return made;
  },
  events(id, row) {
    const at = new Date(row.at * 1000);
    return el("li", {}, el("time", { class: "dim number", dateTime: at.toISOString(), title: at.toLocaleString() },
      at.toTimeString().slice(0, 8)), el("span", { class: ink(row.style) }, row.what),
      el("span", {}, row.job ? to("job", row.job, row.name) : "", " ", row.text));
  },
};

function change(name, news, whole) {
  const list = lists[name], parent = $(name), focused = document.activeElement;
  const held = parent.contains(focused) ? focused.closest("[data-id]").dataset.id : null;
  if (whole) { list.rows.clear(); parent.replaceChildren(); }
  for (const [id, row] of Object.entries(news.rows || {})) {
    const node = draw[name](id, row);
    node.dataset.id = id;
    const before = list.rows.get(id);
    if (before) before.replaceWith(node);
    list.rows.set(id, node);
  }
  if (news.order) {
    list.order = news.order;
    const kept = new Set(news.order);
    for (const [id, node] of list.rows) if (!kept.has(id)) { node.remove(); list.rows.delete(id); }
    let at = parent.firstElementChild;
    for (const id of news.order) {
      const node = list.rows.get(id);
      if (node === at) at = at.nextElementSibling;
      else parent.insertBefore(node, at);
    }
  }
  if (held && !parent.contains(document.activeElement)) list.rows.get(held)?.querySelector("a")?.focus();
}

const NONE = {
  jobs: ["no jobs: mrq compute exp --x 2 -u URL", "no job has this in it"],
  workers: ["no workers: mrq worker -u URL", "no worker has this in it"],
  events: ["nothing has happened yet", "no event has this in it"],
};
function sift() {
  const sought = $("sought").value.toLowerCase();
  for (const [name, list] of Object.entries(lists)) {
    let shown = 0;
    for (const node of list.rows.values()) {
      node.hidden = !(node.textContent + node.dataset.id).toLowerCase().includes(sought);
      shown += !node.hidden;
    }
    $(name + "-none").textContent = shown ? more[name] || "" : NONE[name][list.rows.size ? 1 : 0];
  }
}
const more = {};

function tally(id, counts) {
  $(id).replaceChildren(...counts.flatMap(([text, style], index) =>
    [index ? " · " : "", el("span", { class: ink(style) }, text)]));
}

// -- pages ------------------------------------------------------------------------------------------------------------

function opened() {
  const [kind, id] = location.hash.slice(1).split("/");
  try {
    return ["job", "worker"].includes(kind) && id ? [kind, decodeURIComponent(id)] : ["", ""];
  } catch { return ["", ""]; } // a link that was cut
}

function facts(rows) {
  return el("table", { class: "facts" }, el("tbody", {}, ...rows.map(([label, text, style]) =>
    el("tr", {}, el("th", { scope: "row" }, label), el("td", { class: ink(style) }, text)))));
}

function page(kind, id, data) {
  const unfolded = new Set([...$("page").querySelectorAll("details[open]")].map((one) => one.dataset.name));
  const fold = (name, title, ...inner) => {
    const made = el("details", { open: unfolded.has(name) }, el("summary", {}, title), ...inner);
    made.dataset.name = name;
    return made;
  };
  const parts = [el("h2", {}, el("a", { href: "#", class: "back" }, "← all"), " ", kind)];
  if (data.gone) parts.push(el("p", { class: "ink-yellow" }, data.gone));
  if (data.facts) parts.push(facts(data.facts));
  if (data.job) parts.push(el("p", {}, "open ", to("job", data.job, data.task)));
  if (data.share !== undefined && data.share !== null) parts.push(bar(data.share));
  if (kind === "job" && (data.ended || data.gone))
    parts.push(el("p", {}, el("a", { id: "report", href: "/report/" + encodeURIComponent(id) }, "its report")));
  if (data.errors && data.errors.length > 1) parts.push(...course(data.errors));
  if (data.map) parts.push(...where(data.map));
  if (data.traceback) parts.push(fold("traceback", "the traceback", el("pre", {}, data.traceback)));
  if (data.left_out && data.left_out.length) {
    parts.push(el("h2", { class: "ink-yellow" }, "terms left out"));
    for (const [term, words, trace] of data.left_out)
      parts.push(trace ? fold(term, `${term}: ${words}`, el("pre", {}, trace)) : el("p", {}, `${term}: ${words}`));
    if (data.more_left_out) parts.push(el("p", { class: "dim" }, `and ${data.more_left_out} more`));
  }
  const focused = document.activeElement, held = $("page").contains(focused) && focused.id !== "page";
  const place = held ? [...$("page").querySelectorAll("a,summary")].indexOf(focused) : -1;
  $("page").replaceChildren(...parts);
  if (place >= 0) $("page").querySelectorAll("a,summary")[place]?.focus();
}

function course(errors) {
  const logs = errors.map(Math.log10), low = Math.min(...logs), high = Math.max(...logs), span = high - low || 1;
  const points = logs.map((one, at) => `${(1000 * at) / (logs.length - 1)},${4 + (112 * (high - one)) / span}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  svg.setAttribute("viewBox", "0 0 1000 120");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  const words = `its error from ${errors[0].toPrecision(2)} to ${errors.at(-1).toPrecision(2)}, on a logarithmic scale`;
  return [el("h2", {}, "converging"), svg, el("p", { class: "dim" }, words)];
}

function where(map) {
  const cells = [...map.cells].map((one) =>
    KINDS[one] ? el("i", { class: KINDS[one] }) : el("i", { class: "hand" }, one));
  const key = el("p", { class: "key dim" }, ...Object.entries({ counted: "counted", partly: "partly",
    waiting: "waits", uncut: "not cut yet" }).flatMap(([kind, words]) => [el("i", { class: kind }), words]));
  const names = map.names.map(([letter, name]) => `${letter} ${name}`).join(" · ");
  return [el("h2", {}, "terms"), el("p", { class: "dim" }, map.words),
    el("div", { class: "map", role: "img", "aria-label": map.words }, ...cells), key, el("p", { class: "dim" }, names)];
}

function route() {
  const [kind, id] = opened();
  const was = $("page").hidden;
  $("lists").hidden = Boolean(kind);
  $("page").hidden = !kind;
  if (kind) {
    page(kind, id, {});
    $("page").focus();
    scrollTo(0, 0);
  } else if (!was && left) document.querySelector(`[data-id="${CSS.escape(left)}"] a`)?.focus();
  left = id;
  connect();
}
let left = "";

// -- the stream -------------------------------------------------------------------------------------------------------

let stream = null, heard = 0, trouble = "", again = 0;

function connect() {
  if (stream) stream.close();
  clearTimeout(again);
  if (document.hidden) { stream = null; return; } // nobody looks
  const [kind, id] = opened();
  stream = new EventSource("/stream" + (kind ? `?${kind}=${encodeURIComponent(id)}` : ""));
  const mine = stream;
  stream.onmessage = (event) => { if (mine === stream) show(JSON.parse(event.data)); };
  stream.onerror = () => {
    if (mine !== stream || stream.readyState !== EventSource.CLOSED) return;
    fetch("/", { cache: "no-store" }).then((answer) => answer.status === 401 && location.reload()).catch(() => {});
    again = setTimeout(connect, 3000);
  };
}

function show(news) {
  heard = performance.now();
  trouble = news.trouble;
  const { head } = news, [kind, id] = opened();
  document.title = `mrq ${head.queue}`;
  $("queue").textContent = head.queue;
  $("where").textContent = head.url;
  $("facts").textContent = head.facts.join(" · ");
  $("tasks").textContent = head.tasks;
  $("warnings").replaceChildren(...head.warnings.map((text) => el("p", {}, text)));
  tally("jobs-tally", head.jobs);
  tally("workers-tally", head.workers);
  more.workers = head.more_workers ? `and ${head.more_workers} more` : "";
  for (const name of Object.keys(lists)) change(name, news[name], news.whole);
  sift();
  if (kind && news.page) page(kind, id, news.page);
  tick();
}

function tick() {
  const quiet = heard ? (performance.now() - heard) / 1000 : 0;
  $("trouble").textContent = quiet > 4 ? `no news for ${Math.round(quiet)} s: trying again` : trouble;
  document.body.dataset.live = String(Boolean(heard) && quiet <= 4 && !trouble);
}

// -- keys -------------------------------------------------------------------------------------------------------------

function move(step) {
  const here = document.activeElement.closest("#jobs,#workers,#events") || $("jobs");
  const links = [...here.children].filter((node) => !node.hidden).map((node) => node.querySelector("a")).filter(Boolean);
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : Math.min(links.length - 1, Math.max(0, at + step))];
  if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
}
const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = document.activeElement === $("sought"), key = event.key;
  if (key === "Escape") {
    if (typing || $("sought").value) { $("sought").value = ""; $("sought").blur(); sift(); }
    else if (opened()[0]) location.hash = "";
    return;
  }
  if (typing) {
    if (key === "Enter" || key === "ArrowDown") { event.preventDefault(); $("sought").blur(); move(0); }
    return;
  }
  if (key === "?") $("keys").showModal();
  else if (opened()[0]) return;
  else if (key in STEPS) move(STEPS[key]);
  else if ("123".includes(key)) $(["jobs", "workers", "events"][key - 1]).querySelector("a")?.focus();
  else if (key === "/") $("sought").focus();
  else return;
  event.preventDefault();
});

$("filter").addEventListener("submit", (event) => event.preventDefault());
$("sought").addEventListener("input", sift);
$("help").addEventListener("click", () => $("keys").showModal());
$("workers-head").append(el("th", { scope: "col" }, "worker"), ...WORKER.map(([title, right, wide]) =>
  el("th", { scope: "col", class: [right ? "number" : "", wide ? "wide" : ""].join(" ").trim() }, title)));
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", connect);
setInterval(tick, 1000);
route();
