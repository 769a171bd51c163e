// What all pages share: parsing what the server has rendered, and a stream that goes on where it was cut off.
// It must not know any page.

/** The elements of HTML that the server made; text of agents stands in it escaped. */
export function parse(html) {
  return new DOMParser().parseFromString(html, "text/html");
}

export function replace(element, html) {
  element.replaceChildren(...document.adoptNode(parse(html).body).childNodes);
}

export async function fetched(url) {
  const answer = await fetch(url, { headers: { accept: "text/html" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return parse(await answer.text());
}

/** Keeps a stream open while the page can be seen: browsers grant a server few connections. */
export class Stream {
  constructor(url, after, handlers) {
    this.url = url;
    this.place = after;
    this.handlers = handlers;
    this.sign = document.getElementById("live");
    this.over = false;
    document.addEventListener("visibilitychange", () => this.#look());
    window.addEventListener("pagehide", () => this.#close());
    window.addEventListener("pageshow", (event) => event.persisted && this.#look());
    this.#look();
  }

  #look() {
    if (this.over) return;
    if (document.visibilityState === "hidden") this.#close();
    else if (!this.source) this.#open();
  }

  #close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  #open() {
    const url = new URL(this.url, location.href);
    url.searchParams.set("after", this.place);
    const source = (this.source = new EventSource(url));
    this.#say("", "connecting");
    source.addEventListener("begin", () => this.#say("on", "live"));
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) this.place = event.lastEventId;
        handle(JSON.parse(event.data));
      });
    }
    source.addEventListener("end", () => this.end("", "ended"));
    source.addEventListener("gone", () => this.end("lost", "signed out: reload the page"));
    source.onerror = () => {
      if (this.over) return;
      this.#say("lost", "connection lost, trying again");
      if (source.readyState === EventSource.CLOSED) {
        this.#close();
        this.timer = setTimeout(() => this.#look(), 3000);
      }
    };
  }

  end(kind, words) {
    this.over = true;
    this.#close();
    this.#say(kind, words);
  }

  #say(kind, words) {
    this.sign.className = `live ${kind}`;
    if (this.sign.textContent !== words) this.sign.textContent = words;
    this.sign.hidden = false;
  }
}
