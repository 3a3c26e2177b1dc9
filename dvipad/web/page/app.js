// The page: it draws what /api/live sends. Names are data: only textContent takes them.
const $ = (id) => document.getElementById(id);
const SHOWN = 200; // rows of the list of DVIPAs
const EVENTS = 60;
const LEVELS = { warning: "warn", error: "bad", critical: "bad" };
const STATUS = { ACTIVE: "good", BACKUP: "quiet", MOVING: "warn", QUIESCING: "warn", DEACTIVATED: "bad" };
const LIFE = { self: "good", up: "good", lost: "warn", dead: "bad" };

let view = null;
let before = null; // the view that rates are counted from
let rates = new Map();
let chosen = location.hash.slice(1);
let heardMs = 0;
const told = new Set(); // events that were shown

const element = (name, text = "", kind = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const pill = (text, kind) => element("span", text, `pill ${kind}`);
const rowOf = (cells) => {
  const row = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    td.append(cell);
    row.append(td);
  }
  return row;
};
const show = (id, shown) => { $(id).hidden = !shown; };
const keyOf = (row) => `${row.dvipa} ${row.port} ${row.name}`;
const perSecond = (rate) => (rate >= 10 ? rate.toFixed(0) : rate.toFixed(1));

function link(state, text) {
  $("link").dataset.state = state;
  $("link").textContent = text;
}

function take(next) {
  if (before && next.now_ms > before.now_ms) {
    const seconds = (next.now_ms - before.now_ms) / 1000;
    const totals = new Map(before.targets.map((row) => [keyOf(row), row.total]));
    if (seconds > 0.5) {
      rates = new Map(next.targets.map((row) =>
        [keyOf(row), Math.max(0, row.total - (totals.get(keyOf(row)) ?? row.total)) / seconds]));
      before = next;
    }
  } else {
    before = next;
  }
  view = next;
  draw();
}

function draw() {
  $("here").textContent = `seen by ${view.name} (${view.xcf})`;
  document.title = `dvipad: ${view.name}`;
  show("troubles", view.troubles.length > 0 || !view.joined);
  $("troubles").textContent = view.joined ? `${view.name}: ${view.troubles.join(", ")}` : `${view.name} has not joined`;
  drawList();
  drawNodes();
  drawFlows();
}

function drawList() {
  const wanted = $("filter").value.trim().toLowerCase();
  const rows = view.dvipas.filter((row) =>
    `${row.dvipa} ${row.owner ?? ""} ${row.status}`.toLowerCase().includes(wanted));
  if (!view.dvipas.some((row) => row.dvipa === chosen)) chosen = view.dvipas[0]?.dvipa ?? "";
  const focused = document.activeElement?.dataset?.dvipa;
  $("dvipas").replaceChildren(...rows.slice(0, SHOWN).map((row) => {
    const line = rowOf([row.dvipa, row.owner ?? "nobody", pill(row.status, STATUS[row.status] ?? ""), String(row.epoch)]);
    line.tabIndex = 0;
    line.dataset.dvipa = row.dvipa;
    line.dataset.owner = row.owner ?? "";
    if (row.dvipa === chosen) line.setAttribute("aria-current", "true");
    return line;
  }));
  if (focused) document.querySelector(`#dvipas tr[data-dvipa="${CSS.escape(focused)}"]`)?.focus();
  show("more", rows.length > SHOWN);
  $("more").textContent = `and ${rows.length - SHOWN} more: use the filter`;
}

function drawNodes() {
  $("nodes").replaceChildren(...view.members.map((member) => {
    const card = element("li", "", LIFE[member.life] ?? "");
    const owns = view.dvipas.filter((row) => row.owner === member.name).length;
    card.append(element("b", member.name), element("span", member.xcf, "quiet"),
      element("span", owns ? `${member.life}, owns ${owns}` : member.life),
      ...(member.troubles ?? []).map((trouble) => element("span", trouble, "trouble")));
    return card;
  }));
}

const SVG = "http://www.w3.org/2000/svg";
const svg = (name, attributes, text = "") => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
};
const box = (x, y, wide, title, sub, kind) => [
  svg("rect", { x, y, width: wide, height: 46, class: kind }),
  svg("text", { x: x + 12, y: y + 20 }, title),
  svg("text", { x: x + 12, y: y + 37, class: "sub" }, sub)];

function targetsOf(dvipa) {
  const byName = new Map();
  for (const row of view.targets.filter((each) => each.dvipa === dvipa)) {
    const sum = byName.get(row.name) ?? { name: row.name, ready: 0, rate: 0, total: 0 };
    sum.ready += row.ready;
    sum.rate += rates.get(keyOf(row)) ?? 0;
    sum.total += row.total;
    byName.set(row.name, sum);
  }
  return [...byName.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}

// Left edges and widths of the three columns, and the width of all.
const WIDE = { client: [10, 100], owner: [190, 180], target: [470, 160], all: 640 };
const NARROW = { client: [2, 92], owner: [116, 118], target: [258, 100], all: 360 };

function flow(from, to, rate) {
  const bend = (to[0] - from[0]) * 0.7;
  const path = svg("path", { d: `M${from[0]} ${from[1]} C${from[0] + bend} ${from[1]} ${to[0] - bend} ${to[1]} ${to[0]} ${to[1]}` });
  if (rate > 0) {
    path.classList.add("flow");
    path.style.setProperty("--pace", `${Math.max(0.3, 2 - Math.log10(1 + rate) * 0.5)}s`);
    path.style.strokeWidth = 2 + Math.min(5, Math.log10(1 + rate) * 1.6);
  }
  return path;
}

function drawFlows() {
  const own = view.dvipas.find((row) => row.dvipa === chosen);
  const targets = own ? targetsOf(chosen) : [];
  const high = Math.max(1, targets.length) * 58 + 12;
  const rate = targets.reduce((sum, each) => sum + each.rate, 0);
  const parts = [];
  const at = $("picture").clientWidth < 480 ? NARROW : WIDE;
  if (own) {
    const middle = high / 2;
    const owner = own.owner ?? "nobody";
    const ends = (column) => at[column][0] + at[column][1];
    parts.push(flow([ends("client"), middle], [at.owner[0], middle], rate));
    for (const [index, target] of targets.entries()) {
      parts.push(flow([ends("owner"), middle], [at.target[0], 35 + index * 58], target.rate));
    }
    parts.push(...box(at.client[0], middle - 23, at.client[1], "clients", `${perSecond(rate)} new/s`, ""));
    parts.push(...box(at.owner[0], middle - 23, at.owner[1], owner, chosen, "own"));
    for (const [index, target] of targets.entries()) {
      const sub = target.ready ? `${perSecond(target.rate)} new/s` : "no listener";
      parts.push(...box(at.target[0], 12 + index * 58, at.target[1], target.name, sub, target.ready ? "" : "off"));
    }
  }
  $("picture").setAttribute("viewBox", `0 0 ${at.all} ${own ? high : 1}`);
  const words = own ? `${chosen} is with ${own.owner ?? "nobody"}; targets: ${targets.map((t) => t.name).join(", ") || "unknown here"}` : "no DVIPA";
  $("picture").replaceChildren(svg("title", { id: "picture-text" }, words), ...parts);
  drawNote(own, targets);
  drawPorts();
}

function drawNote(own, targets) {
  const note = $("picture-note");
  show("picture-note", Boolean(own) && targets.length === 0);
  const owner = own && view.members.find((member) => member.name === own.owner);
  note.replaceChildren("Only the distributor knows the targets.");
  if (owner && owner.name !== view.name) {
    const host = owner.xcf.includes(":") ? `[${owner.xcf}]` : owner.xcf;
    const there = element("a", `the page of ${owner.name}`);
    there.href = `http://${host}:${location.port || 80}/#${chosen}`;
    note.append(" See ", there, ".");
  }
}

function drawPorts() {
  const rows = view.targets.filter((row) => row.dvipa === chosen);
  show("ports", rows.length > 0);
  $("targets").replaceChildren(...rows.map((row) => {
    const line = rowOf([String(row.port), row.name, String(row.ready), perSecond(rates.get(keyOf(row)) ?? 0), String(row.total)]);
    for (const cell of [line.cells[3], line.cells[4]]) cell.className = "n";
    return line;
  }));
}

function addEvents(all) {
  // A new connection is told again what is kept; a number alone may be of a daemon before.
  const isNew = (event) => !told.has(`${event.number} ${event.wall_ms}`);
  const events = all.filter(isNew);
  for (const event of events) told.add(`${event.number} ${event.wall_ms}`);
  for (const old of [...told].slice(0, Math.max(0, told.size - 2000))) told.delete(old);
  const made = events.slice(-EVENTS).reverse().map((event) => {
    const line = element("li", "", LEVELS[event.level] && event.kind !== "decision" ? LEVELS[event.level] : "");
    const time = element("time", new Date(event.wall_ms).toLocaleTimeString([], { hour12: false }));
    time.dateTime = new Date(event.wall_ms).toISOString();
    line.append(time, event.text);
    return line;
  });
  $("events").prepend(...made);
  while ($("events").children.length > EVENTS) $("events").lastChild.remove();
}

function pathOf(row) {
  const state = row.closing ? "closing" : row.established ? "established" : "handshake";
  return `${row.client}:${row.client_port} → ${row.dvipa}:${row.dvipa_port} → ${row.name ?? row.target ?? "a target that is gone"} (${state})`;
}

async function search(event) {
  event.preventDefault();
  const data = new FormData($("search"));
  const query = new URLSearchParams([...data].filter(([, value]) => value.trim()));
  const answer = await fetch(`/api/connection?${query}`).catch(() => null);
  const body = answer && (await answer.json().catch(() => null));
  if (!body?.rows) {
    $("found").replaceChildren(element("li", body?.error ?? "no answer", "bad"));
    return;
  }
  const names = new Map(view.members.map((member) => [member.xcf, member.name]));
  const lines = body.rows.map((row) => element("li", pathOf({ ...row, name: names.get(row.target) })));
  if (!lines.length) lines.push(element("li", "no such connection in the CRT of this node", "quiet"));
  if (body.total > body.rows.length) lines.push(element("li", `and ${body.total - body.rows.length} more`, "quiet"));
  $("found").replaceChildren(...lines);
}

function choose(event) {
  const row = event.target.closest("tr[data-dvipa]");
  if (!row || (event.type === "keydown" && event.key !== "Enter")) return;
  chosen = row.dataset.dvipa;
  history.replaceState(null, "", `#${chosen}`);
  draw();
}

function live() {
  const source = new EventSource("/api/live");
  const heard = (work) => (event) => { heardMs = Date.now(); work(JSON.parse(event.data)); };
  source.addEventListener("view", heard((data) => { link("live", "live"); take(data); }));
  source.addEventListener("events", heard(addEvents));
  source.addEventListener("down", heard((data) => link("lost", `the daemon does not answer: ${data.reason}`)));
  source.onerror = () => {
    link("lost", "no connection to this node");
    if (source.readyState === EventSource.CLOSED) setTimeout(live, 1000);
  };
}

addEventListener("resize", () => view && drawFlows());
$("filter").addEventListener("input", () => view && drawList());
$("dvipas").addEventListener("click", choose);
$("dvipas").addEventListener("keydown", choose);
$("search").addEventListener("submit", search);
setInterval(() => {
  if (heardMs && Date.now() - heardMs > 5000) link("lost", "nothing heard for a while");
}, 1000);
live();
