// How did the counts of one influencer, or of two, move over a stretch of time? Three charts with one crosshair.

import { address, get } from "./api.js";
import { now } from "./clock.js";
import { choice, field, h, write } from "./dom.js";
import * as format from "./format.js";
import { Chart, tell } from "./chart.js";
import * as ranges from "./range.js";
import * as series from "./series.js";
import { install as searchBox } from "./search.js";
import * as table from "./table.js";
import { Timeline } from "./timeline.js";
import uPlot from "./vendor/uPlot.esm.js";

const MEASURES = [
  { name: "followerCount", title: "Followers", write: format.count, whole: true, heightPx: 260 },
  { name: "followingCount", title: "Followings", write: format.count, whole: true, heightPx: 180 },
  { name: "followerRatio", title: "Ratio", write: format.ratio, whole: false, heightPx: 180 },
];
const TOKENS = ["--series-1", "--series-2"];
const RECENT_MOST = 16; // observations kept for points that are being asked for: the store has them a second later

/** The charts of the influencer `pk` below `root`; `followed(pks)` is told whom to listen for. */
export class History {
  #root;
  #followed;
  #timeline;
  #charts;
  #asking = null;
  #scale = "values";
  #pressScale;
  /** One or two of {pk, name, series (null until loaded), recent (the observations that came last)}. */
  #shown;
  #never = false; // whether the first one was never observed
  #loaded = ""; // of which influencers and range the points are

  constructor(root, pk, followed) {
    this.#root = root;
    this.#followed = followed;
    this.#shown = [unknown(pk)];
    this.#timeline = new Timeline({
      place: field(root, "ranges"),
      zoomPlace: field(root, "zoom"),
      load: () => this.#urlChanged(),
      tell: (atS, said) => this.#tell(atS, said),
    });
    this.#charts = MEASURES.map((measure) => {
      const chart = new Chart(field(root, "plots"), {
        ...measure,
        on: this.#timeline.handlers(() => chart),
        pngName: () => this.#shown.map((one) => one.name).join("-and-"),
      });
      return chart;
    });
    this.#timeline.charts = this.#charts;
    this.#pressScale = choice(
      field(root, "scale"),
      [
        ["values", "Values", "The counts as they are"],
        ["change", "Change %", "How much each changed since the left end, in percent"],
      ],
      (scale) => this.#rescale(scale),
    );
    this.#pressScale(this.#scale);
    field(root, "table").addEventListener("toggle", () => this.#fillTable());
    this.#said = h("p", { class: "hidden", "aria-live": "polite" });
    root.append(this.#said);
    this.#readCompared();
    this.#showCompare();
  }

  #said;

  get pks() {
    return this.#shown.map((one) => one.pk);
  }

  get #wanted() {
    return JSON.stringify([this.pks, this.#timeline.range]);
  }

  get #inPercents() {
    return this.#scale === "change" && this.#shown.length > 1;
  }

  /** Fetch the points of the range and show them. */
  async load() {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    const began = performance.now();
    const { from, to } = ranges.asked(this.#timeline.range, now() / 1_000);
    const plots = field(this.#root, "plots");
    plots.setAttribute("aria-busy", "true");
    try {
      const answers = await Promise.all(
        this.#shown.map((one) =>
          get(address(`/v1/influencers/${one.pk}/series`, { from, to, step: "auto" }), { signal: asking.signal }),
        ),
      );
      answers.forEach((answer, index) => (this.#shown[index].series = series.placed(answer, now() / 1_000)));
      this.#goOnFromHere();
      plots.dataset.milliseconds = Math.round(performance.now() - began);
    } catch (error) {
      if (asking.signal.aborted) return;
      if (error.status === 404) {
        for (const one of this.#shown) one.series ??= series.empty();
        this.#goOnFromHere();
      } else if (this.#loaded !== this.#wanted) {
        const again = h("button", { type: "button", click: () => this.load() }, "Try again");
        for (const chart of this.#charts) chart.say(`${error.title}.`, chart === this.#charts[0] ? again : null);
      }
    }
    plots.removeAttribute("aria-busy");
    plots.dataset.range = ranges.isZoomed(this.#timeline.range) ? "zoomed" : this.#timeline.range.preset;
  }

  /** There is nothing of the first one, in no range. */
  neverObserved() {
    this.#never = true;
    this.draw();
  }

  /** Take an observation, the JSON of an influencer, if it belongs to one of those shown and into the range. */
  observe(influencer) {
    const one = this.#shown.find((shown) => shown.pk === influencer.pk);
    if (!one) return;
    this.#never &&= one !== this.#shown[0];
    this.#named(one, influencer.username);
    const observation = { ...influencer, at: Date.parse(influencer.observedAt) / 1_000 };
    one.recent = [...one.recent, observation].slice(-RECENT_MOST);
    if (this.#append(one, observation)) this.draw();
  }

  /** The points are loaded, but for what the store had not yet. */
  #goOnFromHere() {
    this.#loaded = this.#wanted;
    for (const one of this.#shown) for (const observation of one.recent) this.#append(one, observation);
    this.draw();
  }

  #append(one, observation) {
    if (!one.series || !this.#timeline.endsNow || !series.append(one.series, observation)) return false;
    series.dropBefore(one.series, ranges.asked(this.#timeline.range, now() / 1_000).from);
    return true;
  }

  /** Let the axis follow the time. */
  goOn() {
    if (this.#timeline.endsNow) this.draw();
  }

  recolour() {
    for (const chart of this.#charts) chart.recolour();
  }

  /** Draw what there is. */
  draw() {
    const loaded = this.#shown.filter((one) => one.series);
    if (!loaded.length) return;
    const percents = this.#inPercents;
    const steps = loaded.map((one) => series.stepSeconds(one.series));
    const tables = loaded.map((one, index) => columnsOf(one.series, steps[index], index === 0, percents));
    const joined = tables.length > 1 ? uPlot.join(tables.map((one) => one.columns)) : tables[0].columns;
    this.#timeline.times = loaded.length > 1 ? union(loaded.map((one) => one.series.at)) : loaded[0].series.at;
    const shown = this.#timeline.shown;
    MEASURES.forEach((measure, m) => {
      const lines = [];
      let offset = 0;
      loaded.forEach((one, index) => {
        const at = tables[index].at;
        const column = (name) => (at.has(name) ? joined[offset + at.get(name)] : undefined);
        lines.push({
          label: one.name,
          token: TOKENS[index],
          values: column(measure.name),
          max: column(`${measure.name}Max`),
          min: column(`${measure.name}Min`),
        });
        offset += tables[index].columns.length - 1;
      });
      const first = loaded[0].series;
      const found = (measure.jumps = percents ? [] : jumpsOf(measure.name, first, steps[0]));
      this.#charts[m].draw({
        time: joined[0],
        lines,
        shown,
        marks: found.map(({ index }) => ({ time: first.at[index], value: first[measure.name][index] })),
        writeTicks: percents ? percentTicks : format.ticks,
        whole: measure.whole && !percents,
      });
      this.#summarise(measure, this.#charts[m], first, steps[0]);
    });
    field(this.#root, "jumps").hidden = !MEASURES.some((measure) => measure.jumps.length);
    this.#showEmpty(loaded);
    this.#showRange(loaded[0], shown);
    this.#tell(this.#timeline.at, false);
    this.#fillTable();
  }

  #showEmpty(loaded) {
    const nothing = loaded.every((one) => !one.series.time.length);
    const all = h("button", { type: "button", click: () => this.#timeline.go({ preset: "all", from: null, to: null }) }, "Show all there is");
    const everything = this.#never || (this.#timeline.range.preset === "all" && this.#timeline.endsNow);
    const text = everything ? "Nothing has been observed yet." : "Nothing was observed in this range.";
    this.#charts.forEach((chart, m) => {
      const valueless = loaded.every((one) => one.series[MEASURES[m].name].every((value) => value == null));
      if (nothing) chart.say(text, m === 0 && !everything ? all : null);
      else chart.say(valueless ? "No ratio: nobody is followed." : null);
    });
  }

  #showRange(one, [from, to]) {
    const names = { raw: "each observation", "1m": "by the minute", "1h": "by the hour", "1d": "by the day" };
    const points = one.series.time.length;
    write(
      field(this.#root, "range-text"),
      `${format.time(from)} to ${format.time(to)} · ${names[one.series.step]}, ${format.some(points, "point")}` +
        (one.series.step === "raw" ? "" : " · the band runs from the lowest to the highest"),
    );
    const links = this.#shown.map((shown, index) => {
      const step = shown.series?.step ?? "auto";
      const first = Math.min(from, shown.series?.time[0] ?? from); // a period is drawn where it ends
      const query = { format: "csv", step, from: Math.floor(first), to: Math.ceil(to) + (this.#timeline.endsNow ? 1 : 0) };
      return [address(`/v1/influencers/${shown.pk}/series`, query), index ? `CSV of ${shown.name}` : "Export CSV"];
    });
    const first = field(this.#root, "csv");
    first.href = links[0][0];
    const second = first.nextElementSibling;
    if (!links[1]) second?.remove();
    else if (second) Object.assign(second, { href: links[1][0], textContent: links[1][1] });
    else first.after(h("a", { class: "button", href: links[1][0], download: true }, links[1][1]));
  }

  #summarise(measure, chart, first, stepS) {
    const values = first[measure.name].filter((value) => value != null);
    if (!values.length) return write(chart.summary, "No values in this range.");
    let [low, high, gaps] = [Infinity, -Infinity, 0];
    for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
    for (let i = 1; i < first.time.length; i++) gaps += first.at[i] - first.at[i - 1] > stepS * series.GAP_STEPS;
    write(
      chart.summary,
      `${measure.title} of ${this.#shown[0].name} from ${format.time(first.time[0])} to ${format.time(first.time.at(-1))}: ` +
        `between ${measure.write(low)} and ${measure.write(high)}, at last ${measure.write(values.at(-1))}. ` +
        `${format.some(values.length, "point")}, ${format.some(gaps, "gap")}, ${format.some(measure.jumps.length, "unusual jump")}. ` +
        "Left and right arrow read the values, plus and minus zoom, shift with an arrow moves in time, 0 resets.",
    );
  }

  /** Write the values at the crosshair, or the latest ones. */
  #tell(atS, said) {
    const loaded = this.#shown.filter((one) => one.series);
    if (!loaded.length) return;
    const spoken = [];
    MEASURES.forEach((measure, m) => {
      let when = "";
      const values = loaded.map((one, index) => {
        const { time, step } = one.series;
        const at = atS == null ? time.length - 1 : series.nearest(one.series.at, atS, series.GAP_STEPS * series.stepSeconds(one.series));
        const value = at < 0 ? null : one.series[measure.name][at];
        if (at >= 0 && !when) when = (atS == null ? "latest · " : "") + format.pointTime(time[at], step);
        const plain = measure.write(value);
        const text = this.#inPercents ? format.change(series.percent(value, series.baseOf(one.series[measure.name]))) : plain;
        const jump = index === 0 && atS != null && measure.jumps?.find((found) => found.index === at);
        const low = one.series[`${measure.name}Min`]?.[at];
        const spread = low == null ? null : `${measure.write(low)} to ${measure.write(one.series[`${measure.name}Max`][at])}`;
        const told = this.#inPercents ? plain : loaded.length === 1 ? spread : null;
        const extra = jump ? `unusual jump ${format.signed(jump.change, measure.write)}` : told;
        spoken.push(`${loaded.length > 1 ? `${one.name}: ` : ""}${measure.title} ${text}${jump ? `, ${extra}` : ""}`);
        return { token: TOKENS[index], label: loaded.length > 1 ? one.name : "", text, extra };
      });
      tell(this.#charts[m].readout, when, values);
      if (said && m === 0) spoken.unshift(when);
    });
    if (said) write(this.#said, spoken.join("; "));
  }

  #fillTable() {
    const details = field(this.#root, "table");
    if (details.open) table.fill(field(this.#root, "table-body"), this.#shown.filter((one) => one.series), MEASURES);
  }

  #rescale(scale) {
    this.#scale = scale;
    this.#pressScale(scale);
    this.draw();
  }

  #named(one, username) {
    const name = username ?? `pk ${one.pk}`;
    if (name === one.name) return;
    one.name = name;
    if (one === this.#shown[1]) this.#showCompare();
    this.draw();
  }

  #urlChanged() {
    this.#readCompared();
    this.#showCompare();
    this.load();
  }

  /** The second influencer is the one that the URL names. */
  #readCompared() {
    const text = new URLSearchParams(location.search).get("compare") ?? "";
    const pk = /^[0-9]{1,10}$/.test(text) ? Number(text) : null;
    if (pk === (this.#shown[1]?.pk ?? null)) return;
    this.#shown.length = 1;
    if (pk != null && pk !== this.#shown[0].pk) {
      this.#shown.push(unknown(pk));
      get(`/v1/influencers/${pk}`).then(
        (found) => this.observe(found),
        (error) => this.#cannotCompare(pk, error),
      );
    }
    this.#followed(this.pks);
  }

  #cannotCompare(pk, error) {
    if (error.status === 0 || this.#shown[1]?.pk !== pk) return;
    this.#compare(null, true);
    field(this.#root, "compare").append(h("span", { class: "muted", role: "status" }, `${pk}: ${error.title.toLowerCase()}`));
  }

  #compare(pk, replace = false) {
    const query = new URLSearchParams(location.search);
    if (pk == null) query.delete("compare");
    else query.set("compare", pk);
    history[replace ? "replaceState" : "pushState"](null, "", `${location.pathname}?${query}`);
    this.#urlChanged();
  }

  #showCompare() {
    const place = field(this.#root, "compare");
    const second = this.#shown[1];
    field(this.#root, "scale").hidden = !second;
    if (second) {
      place.replaceChildren(
        h("span", { class: "chip" },
          h("i", { class: "swatch series-2", "aria-hidden": "true" }),
          "Compared with ",
          h("a", { href: `/influencers/${second.pk}` }, second.name),
          h("button", { type: "button", "aria-label": `Stop comparing with ${second.name}`, title: "Stop comparing", click: () => this.#compare(null) }, "×"),
        ),
      );
    } else {
      place.replaceChildren();
      searchBox(place, {
        label: "Compare with another influencer",
        placeholder: "Compare with…",
        chosen: (item) => this.#compare(item.pk),
      });
    }
  }
}

/** One that is shown, of whom nothing is known yet. */
function unknown(pk) {
  return { pk, name: `pk ${pk}`, series: null, recent: [] };
}

/** The columns for uPlot of one series with its gaps, and where each measure stands in them. */
function columnsOf(points, stepS, withBand, percents) {
  const at = new Map();
  const columns = [];
  for (const { name } of MEASURES) {
    let group = [points[name]];
    const names = [name];
    if (withBand && points[`${name}Max`]) {
      group.push(series.edge(points[`${name}Max`], Math.max), series.edge(points[`${name}Min`], Math.min));
      names.push(`${name}Max`, `${name}Min`);
    }
    if (percents) group = series.inPercent(group);
    for (const [index, column] of group.entries()) {
      columns.push(column);
      at.set(names[index], columns.length);
    }
  }
  return { at, columns: series.withGaps(points.at, columns, stepS) };
}

/** The jumps of a count are its own; those of the ratio are where one of both counts jumped: its own steps grow with it. */
function jumpsOf(name, points, stepS) {
  if (name !== "followerRatio") return series.jumps(points.at, points[name], stepS);
  const of = (count) => series.jumps(points.at, points[count], stepS).map((jump) => jump.index);
  return union([of("followerCount"), of("followingCount")])
    .filter((index) => points[name][index] != null && points[name][index - 1] != null)
    .map((index) => ({ index, change: points[name][index] - points[name][index - 1] }));
}

function percentTicks(values, step) {
  const digits = format.decimals(step);
  return values.map((value) => `${format.signed(value, (size) => size.toFixed(digits))}%`);
}

/** All numbers of some lists, ascending, each once. */
function union(lists) {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}
