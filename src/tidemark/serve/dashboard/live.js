// How does the page hear of what is new? One stream of server-sent events for each tab, mended by itself.
//
//     connecting ──first event──> live ──error──> reconnecting ──(healthz silent)──> gone
//                                  ^                  │  ^                            │
//                                  └────first event───┘  └────────healthz answers─────┘
//
// The browser's own reconnect is not used: it comes without jitter, and not at all after a 503. A hidden tab lets go of
// its stream after a while, since browsers allow six connections to a host; it takes it up again when it is seen.

import { address, answers } from "./api.js";
import { now } from "./clock.js";

const RETRY_FIRST_MS = 1_000;
const RETRY_LAST_MS = 30_000;
const OPEN_MS = 10_000; // a stream that says nothing for so long after it was opened is none
const SILENT_MS = 45_000; // so long without an event, the server is asked whether it is there
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
  #heardBefore = false;
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
    this.#silence = setTimeout(() => this.#check(), SILENT_MS);
    this.#failures = 0;
    const back = this.#heardBefore && this.state !== "live";
    this.#heardBefore = true;
    this.#become("live");
    if (back) this.dispatchEvent(new CustomEvent("back"));
  }

  /** Nothing was heard for a while: nothing is new, or the connection is dead. */
  async #check() {
    const source = this.#source;
    const there = await answers();
    if (source !== this.#source || source === null) return;
    if (there) this.#silence = setTimeout(() => this.#check(), SILENT_MS);
    else this.#lost();
  }

  async #lost() {
    this.#close();
    const waitMs = Math.min(RETRY_LAST_MS, RETRY_FIRST_MS * 2 ** this.#failures) * (0.5 + Math.random());
    this.#failures += 1;
    if (this.state === "live") this.#become("reconnecting");
    this.#timer = setTimeout(() => this.#open(), waitMs);
    const there = await answers();
    if (this.state === "live" || this.state === "paused") return;
    this.#become(there ? "reconnecting" : "gone");
  }

  /** Try at once: the reader came back, or the network did. */
  #again() {
    if (this.#paused || this.state === "live") return;
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
