// The task page while it is open: sections that have changed, lines of its agents, and forms that need no reload.

import { Stream, fetched, parse, replace } from "./base.js";

const page = document.getElementById("task");
const late = new Map(); // sections that came while a row was being edited

// -- sections --

function section(name) {
  return document.querySelector(`[data-section="${name}"]`);
}

/** Fields that somebody has begun to fill in, by their names. */
function begun(element) {
  const found = new Map();
  for (const field of element.querySelectorAll("textarea, input:not([type=hidden])")) {
    const touched = field.type === "file" ? field.files.length > 0 : field.value !== field.defaultValue;
    if (field.id && (touched || field === document.activeElement)) found.set(field.id, field);
  }
  return found;
}

function put(name, html, hold, digest) {
  const element = section(name);
  if (!element || (digest && element.dataset.digest === digest)) return;
  const same = hold === undefined || element.dataset.hold === hold;
  if (same && element.querySelector("[data-editing]")) {
    late.set(name, [html, hold, digest]);
    return;
  }
  const kept = same ? begun(element) : new Map();
  const active = document.activeElement;
  const places = new Map([...kept].map(([id, field]) => [id, [field.selectionStart, field.selectionEnd]]));
  const open = [...element.querySelectorAll("details[open]")].map((each) => each.id).filter(Boolean);
  replace(element, html);
  if (digest) element.dataset.digest = digest;
  if (hold !== undefined) element.dataset.hold = hold;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  for (const [id, field] of kept) {
    document.getElementById(id)?.replaceWith(field); // with what was typed or chosen
    if (field !== active) continue;
    field.focus();
    if (field.tagName === "TEXTAREA") field.setSelectionRange(...places.get(id));
  }
}

function sections({ html, holds, digests }) {
  for (const [name, text] of Object.entries(html)) put(name, text, holds[name], digests[name]);
}

function lines({ html }) {
  const list = document.getElementById("lines");
  const last = Number(list.lastElementChild?.dataset.position ?? 0);
  const fresh = [...parse(html).querySelectorAll("li")].filter((each) => Number(each.dataset.position) > last);
  list.append(...fresh.map((each) => document.adoptNode(each)));
  document.getElementById("no-lines").hidden = list.childElementCount > 0;
}

/** Fetch the page, and show a section as it is there, whatever was begun here. */
async function refresh(url, name) {
  const found = (await fetched(url)).querySelector(`[data-section="${name}"]`);
  const element = section(name);
  if (!found || !element) return;
  late.delete(name);
  element.dataset.digest = found.dataset.digest ?? "";
  element.dataset.hold = found.dataset.hold ?? "";
  element.replaceChildren(...document.adoptNode(found).childNodes);
  element.querySelector("[data-editing] input:not([type=hidden])")?.focus();
}

// -- forms --

function complain(form, words) {
  let note = form.querySelector("[role=alert]");
  if (!note) {
    note = document.createElement("p");
    note.className = "problem";
    note.setAttribute("role", "alert");
    form.append(note);
  }
  note.textContent = words;
}

async function send(form, button) {
  const data = new FormData(form, button);
  const plain = form.enctype !== "multipart/form-data";
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { accept: "application/json", "x-hostler": "1" },
    body: plain ? new URLSearchParams(data) : data,
    credentials: "same-origin",
  });
  if (answer.ok) return;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.message || `The server answered ${answer.status}.`);
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-act]");
  if (!form) return;
  event.preventDefault();
  const buttons = [...form.querySelectorAll("button")];
  const row = form.action.endsWith("/rows");
  const sent = send(form, event.submitter);
  form.setAttribute("aria-busy", "true");
  for (const each of buttons) each.disabled = true;
  sent
    .then(() => {
      if (row) return refresh(location.pathname, "gate");
      for (const field of form.querySelectorAll("textarea, input[type=file]")) field.value = "";
      for (const each of buttons) each.disabled = true; // until the task has taken it, which changes this form
    })
    .catch((problem) => {
      complain(form, problem.message);
      for (const each of buttons) each.disabled = false;
    })
    .finally(() => form.removeAttribute("aria-busy"));
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-edit]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    refresh(link.href, "gate").catch(() => location.assign(link.href));
  }
  const step = event.target.closest('a[href^="#step-"]');
  if (step) reveal(step.hash);
});

// -- tabs --

const tabs = document.getElementById("tabs");
const panels = [...tabs.querySelectorAll(":scope > .panel")];

function choose(panel, focus = false) {
  for (const each of panels) {
    const button = document.getElementById(`tab-${each.id}`);
    const chosen = each === panel;
    each.hidden = !chosen;
    button.setAttribute("aria-selected", chosen);
    button.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) button.focus();
  }
}

function makeTabs() {
  const bar = document.createElement("div");
  bar.className = "tabs";
  bar.setAttribute("role", "tablist");
  bar.setAttribute("aria-label", "More of this task");
  for (const panel of panels) {
    const button = document.createElement("button");
    button.type = "button";
    button.id = `tab-${panel.id}`;
    button.textContent = panel.dataset.tab;
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", panel.id);
    button.addEventListener("click", () => choose(panel));
    bar.append(button);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", button.id);
    panel.querySelector(":scope > h2").hidden = true;
  }
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = panels.findIndex((each) => !each.hidden);
    choose(panels[(now + step + panels.length) % panels.length], true);
    event.preventDefault();
  });
  tabs.prepend(bar);
  choose(panels[0]);
}

/** Open what a link within the page leads to. */
function reveal(hash) {
  const target = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
  if (!target) return;
  const panel = target.closest(".panel");
  if (panel) choose(panel);
  if (target.tagName === "DETAILS") target.open = true;
}

makeTabs();
reveal(location.hash);
if (page.dataset.stream) {
  const end = () => late.clear();
  new Stream(page.dataset.stream, page.dataset.after, { sections, lines, end });
}
