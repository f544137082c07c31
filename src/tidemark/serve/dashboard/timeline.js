// How does one move in time? Range buttons, zoom, keys, the URL and one crosshair for all charts of a page.

import { choice, h } from "./dom.js";
import { now } from "./clock.js";
import * as ranges from "./range.js";

const ZOOM = 0.5;
const PAN = 0.25; // of what is shown

/**
 * Holds the range of a page and tells of changes: `load()` when other points are needed, `tell(atS, said)` when the
 * crosshair moved (null: away); `said` is true when a key moved it, so that it can be read out.
 */
export class Timeline {
  /** The charts that share the crosshair. */
  charts = [];
  /** Ascending times at which the crosshair can stand, Unix seconds. */
  times = [];
  /** Where the crosshair stands; null: nowhere. */
  at = null;
  #load;
  #tell;
  #press;
  #reset;

  constructor({ place, zoomPlace, load, tell }) {
    this.#load = load;
    this.#tell = tell;
    this.range = ranges.read(new URLSearchParams(location.search));
    const names = { all: "All" };
    const titles = { all: "Everything that is kept" };
    this.#press = choice(
      place,
      ranges.PRESETS.map(([name]) => [name, names[name] ?? name, titles[name] ?? `The last ${name}`]),
      (preset) => this.go({ preset, from: null, to: null }),
    );
    const button = (text, title, act) => h("button", { type: "button", title, "aria-label": title, click: act }, text);
    this.#reset = button("Reset", "Reset the zoom", () => this.reset());
    zoomPlace.append(
      button("\u2212", "Zoom out", () => this.zoom(1 / ZOOM)),
      button("+", "Zoom in", () => this.zoom(ZOOM)),
      this.#reset,
    );
    addEventListener("popstate", () => {
      this.range = ranges.read(new URLSearchParams(location.search));
      this.#changed();
    });
    this.#show();
  }

  /** The ends of the time axis now. */
  get shown() {
    return ranges.shown(this.range, now() / 1_000, this.times[0]);
  }

  /** Whether new observations belong into what is shown. */
  get endsNow() {
    return !ranges.isZoomed(this.range);
  }

  /** What a chart is to call. */
  handlers(chart) {
    return {
      cursor: (atS) => this.point(atS, chart()),
      zoom: (from, to) => this.go(ranges.between(this.range, from, to)),
      reset: () => this.reset(),
      key: (event) => this.#key(event),
      charts: () => this.charts,
    };
  }

  /** Show another range, as a new entry in the browser's history. */
  go(range) {
    this.range = range;
    const query = new URLSearchParams(location.search);
    ranges.write(query, range);
    history.pushState(null, "", `?${query}`);
    this.#changed();
  }

  reset() {
    if (ranges.isZoomed(this.range)) this.go({ ...this.range, from: null, to: null });
  }

  zoom(factor) {
    const shown = this.shown;
    const at = this.at ?? (factor < 1 && this.endsNow ? shown[1] : (shown[0] + shown[1]) / 2);
    const wanted = ranges.zoomed(this.range, shown, factor, at);
    const nowS = now() / 1_000;
    const late = Math.max(0, Math.ceil(wanted.to - nowS));
    this.go({ ...wanted, from: Math.max(0, wanted.from - late), to: wanted.to - late });
  }

  /** Put the crosshair of all charts to the point nearest to a time. */
  point(atS, source = null, said = false) {
    const index = atS == null || !this.times.length ? -1 : closest(this.times, atS);
    this.at = index < 0 ? null : this.times[index];
    for (const chart of this.charts) if (chart !== source) chart.point(this.at);
    this.#tell(this.at, said);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [from, to] = this.shown;
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.shiftKey && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      this.go(ranges.moved(this.range, [from, to], event.key === "ArrowLeft" ? -PAN : PAN, now() / 1_000));
    } else if (event.key in steps) {
      const inside = this.times.filter((time) => time >= from && time <= to);
      if (!inside.length) return;
      const here = this.at == null ? inside.length : inside.indexOf(this.at);
      const there = Math.min(inside.length - 1, Math.max(0, here + steps[event.key]));
      this.point(inside[there], null, true);
    } else if (event.key === "+" || event.key === "=") this.zoom(ZOOM);
    else if (event.key === "-") this.zoom(1 / ZOOM);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.at == null ? this.reset() : this.point(null);
    else return;
    event.preventDefault();
  }

  #changed() {
    this.at = null;
    this.#show();
    this.#load();
  }

  #show() {
    const zoomed = ranges.isZoomed(this.range);
    this.#press(zoomed ? null : this.range.preset);
    this.#reset.disabled = !zoomed;
  }
}

function closest(times, atS) {
  let low = 0;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < atS) low = middle + 1;
    else high = middle;
  }
  return low > 0 && atS - times[low - 1] < times[low] - atS ? low - 1 : low;
}
