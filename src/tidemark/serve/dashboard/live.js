// How does the page hear of what is new? One stream of server-sent events for each tab, mended by itself.
//
//     connecting ──event──> live ──a second error──> reconnecting ──healthz is silent──> gone
//                            ^                           │  ^                              │
//                            └───────────event───────────┘  └────────healthz answers───────┘
//
// The browser's own reconnect is not used: it comes without jitter, and not at all after a 503. A hidden tab lets go of
// its stream after a while, since browsers allow six connections to a host; it takes it up again when it is seen.

import { address, answers } from "./api.js";
import { now } from "./clock.js";

const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 30_000;
const OPEN_MS = 10_000; // a stream that says nothing for so long after it was opened is none
const SILENT_MS = 45_000; // so long without an event, or up to twice as long, and the stream is doubted
const HIDDEN_MS = 60_000; // a tab that nobody sees for so long lets go of its stream

/**
 * Events: "observation" (detail: the JSON of an influencer), "stats" (detail: the JSON of /v1/stats), "state", and
 * "back" when the stream is there again after a break, so that what was missed can be asked for.
 */
export class Live extends EventTarget {
  #pks = [];
  #source = null;
  #timer = 0;
  #silence = 0;
  #hiding = 0;
  #failures = 0;
  #missed = false; // whether something may have been missed since the last event
  #paused = false;

  constructor() {
    super();
    this.state = "connecting";
    this.sinceMs = now();
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("online", () => this.#again());
    addEventListener("pagehide", () => this.#pause());
    addEventListener("pageshow", (event) => event.persisted && this.#resume());
  }

  /** Listen for these influencers from now on. */
  watch(pks) {
    if (String(pks) === String(this.#pks) && this.#source) return;
    this.#pks = [...pks];
    this.#open();
  }

  /** Somebody else had an answer: a server that was gone is back. */
  answered() {
    if (this.state === "gone") this.#again();
  }

  #open() {
    this.#close();
    if (this.#paused) return;
    const path = address("/v1/live", { stats: "true" });
    const source = new EventSource(path + this.#pks.map((pk) => `&pk=${pk}`).join(""));
    this.#source = source;
    for (const kind of ["observation", "stats"]) {
      source.addEventListener(kind, (event) => {
        this.#heard();
        this.dispatchEvent(new CustomEvent(kind, { detail: JSON.parse(event.data) }));
      });
    }
    source.onerror = () => this.#lost();
    this.#timer = setTimeout(() => this.#lost(), OPEN_MS);
  }

  #close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#source?.close();
    this.#source = null;
  }

  #heard() {
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#check(), SILENT_MS * (1 + Math.random()));
    this.#failures = 0;
    const back = this.#missed;
    this.#missed = false;
    this.#become("live");
    if (back) this.dispatchEvent(new CustomEvent("back"));
  }

  /** Nothing was heard for a while: nothing is new, or the connection is dead. */
  async #check() {
    const source = this.#source;
    const there = await answers();
    if (source !== this.#source || source === null) return;
    if (there) this.#open(); // it tells at once how things stand
    else this.#lost();
  }

  async #lost() {
    this.#close();
    const waitMs = Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** this.#failures) * (0.5 + Math.random());
    this.#failures += 1;
    this.#missed ||= this.state === "live";
    this.#timer = setTimeout(() => this.#open(), waitMs);
    const there = await answers();
    if (this.#source?.readyState === EventSource.OPEN || this.state === "paused") return;
    // The server ends each stream after an hour or so: when the next one comes at once, nobody needs to know.
    if (!there) this.#become("gone");
    else if (this.state !== "live" || this.#failures > 1) this.#become("reconnecting");
  }

  /** Try at once: the reader came back, or the network did. */
  #again() {
    if (this.#paused || (this.#source && this.state === "live")) return;
    this.#failures = 0;
    this.#open();
  }

  #seen() {
    clearTimeout(this.#hiding);
    if (document.hidden) this.#hiding = setTimeout(() => this.#pause(), HIDDEN_MS);
    else this.#paused ? this.#resume() : this.#again();
  }

  #pause() {
    this.#paused = true;
    this.#missed = true;
    this.#close();
    this.#become("paused");
  }

  #resume() {
    this.#paused = false;
    this.#failures = 0;
    this.#open();
  }

  #become(state) {
    if (state === this.state) return;
    const broken = ["reconnecting", "gone"];
    if (!(broken.includes(state) && broken.includes(this.state))) this.sinceMs = now();
    this.state = state;
    this.dispatchEvent(new CustomEvent("state"));
  }
}
