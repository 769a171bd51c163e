// The session page while it is open: new rows, completions of rows, text as it is written, and "show all".

import { Stream, fetched, parse, replace } from "./base.js";

const page = document.getElementById("session");
const rows = document.getElementById("rows");
const queued = document.getElementById("queued");
const previews = new Map(); // event id -> where its text goes, by index

/** Put what completes a row into that row, wherever it stands now. */
function settle(root) {
  for (const part of root.querySelectorAll("[data-into]")) {
    const id = part.dataset.into;
    const slot = id && document.querySelector(`[data-slot="${CSS.escape(id)}"]`);
    if (!slot || slot.contains(part)) continue;
    const loose = part.closest("li.loose");
    slot.append(part);
    loose?.remove();
    const state = document.querySelector(`[data-state="${CSS.escape(id)}"]`);
    const label = part.querySelector(".label");
    for (const piece of state && label ? label.children : []) {
      if (piece.className) state.append(piece.cloneNode(true)); // an uneventful result has nothing to say but its time
    }
  }
}

function atEnd() {
  return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 80;
}

function show(row) {
  const stay = atEnd();
  document.getElementById("empty").hidden = true;
  const known = document.getElementById(row.id);
  if (known) {
    const waits = queued.contains(known) || previews.has(row.id);
    if (!waits) return; // it is here already
    known.remove();
    previews.delete(row.id);
  }
  const item = document.adoptNode(parse(row.html).querySelector("li"));
  (row.queued ? queued : rows).append(item);
  settle(rows);
  if (stay && page.dataset.follow !== "off") window.scrollTo({ top: document.documentElement.scrollHeight });
}

/** Text as it is being written: replaced by the event itself when that comes. */
function preview(frame) {
  if (frame.type === "event_start") {
    if (document.getElementById(frame.event.id)) return;
    const item = document.createElement("li");
    item.id = frame.event.id;
    item.className = "row message agent preview";
    const kind = document.createElement("span");
    kind.className = "kind";
    kind.textContent = frame.event.type === "agent.thinking" ? "thinking" : "Agent";
    const time = document.createElement("span");
    time.className = "time";
    const what = document.createElement("div");
    what.className = "what text";
    item.append(time, kind, what);
    rows.append(item);
    previews.set(frame.event.id, what);
  } else {
    previews.get(frame.event_id)?.append(frame.delta.content.text ?? "");
  }
}

function sections({ html }) {
  for (const [name, text] of Object.entries(html)) replace(document.querySelector(`[data-section="${name}"]`), text);
}

async function showAll(link) {
  const id = link.dataset.row;
  const full = (await fetched(link.href)).querySelector(`[data-blocks="${CSS.escape(id)}"]`);
  const here = document.querySelector(`[data-blocks="${CSS.escape(id)}"]`);
  if (!full || !here) return;
  here.replaceWith(document.adoptNode(full));
  document.querySelector(`[data-blocks="${CSS.escape(id)}"] pre`)?.focus();
}

async function earlier(link) {
  const before = await fetched(link.href);
  const height = document.documentElement.scrollHeight;
  rows.prepend(...[...document.adoptNode(before.getElementById("rows")).children]);
  document.getElementById("earlier").replaceChildren(...document.adoptNode(before.getElementById("earlier")).childNodes);
  settle(rows);
  window.scrollBy(0, document.documentElement.scrollHeight - height);
}

document.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  const link = event.target.closest("a.more, #earlier a");
  if (!link) return;
  event.preventDefault();
  (link.matches(".more") ? showAll(link) : earlier(link)).catch(() => location.assign(link.href));
});

const all = document.getElementById("open-all");
all.hidden = false;
all.addEventListener("click", () => {
  const found = [...rows.querySelectorAll("details")];
  const open = found.some((each) => !each.open);
  for (const each of found) each.open = open;
  all.textContent = open ? "Close all" : "Open all";
});

settle(rows);
if (page.dataset.stream) new Stream(page.dataset.stream, page.dataset.after, { row: show, preview, sections });
