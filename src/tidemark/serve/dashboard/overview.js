// How do all influencers stand, and are they watched well? Figures, the average over time, leaderboards.

import { address, get } from "./api.js";
import { lateSeconds, now } from "./clock.js";
import { Chart, tell } from "./chart.js";
import { field, h, stamp, write } from "./dom.js";
import * as format from "./format.js";
import * as leaderboards from "./leaderboards.js";
import * as ranges from "./range.js";
import * as series from "./series.js";
import { Timeline } from "./timeline.js";

const AVERAGE_EVERY_MS = 60_000; // the store has a new average once a minute
const WITHOUT_STREAM_MS = 15_000;
const every = (seconds) => (seconds === 60 ? "every minute" : seconds ? `every ${format.duration(seconds)}` : "as fast as the API answers");
const average = { name: "averageFollowerCount", title: "Average followers", write: format.count };

/** Show the overview in `main`; `live` is the tab's stream. Returns what a new theme needs. */
export function show(main, live) {
  stamp(main, "overview");
  document.title = "Tidemark";
  const put = (name, text) => write(field(main, name), text);
  let stats = null;
  let points = null;
  let drawn = ""; // the range they are of
  let asking = null;
  const plots = field(main, "plots");
  const timeline = new Timeline({
    place: field(main, "ranges"),
    zoomPlace: field(main, "zoom"),
    load,
    tell: (atS) => tellAt(atS),
  });
  const chart = new Chart(plots, { title: average.title, heightPx: 230, on: timeline.handlers(() => chart), pngName: () => "tidemark" });
  timeline.charts = [chart];
  leaderboards.install(main);
  refresh();
  load();
  live.addEventListener("stats", (event) => take(event.detail));
  live.addEventListener("back", load);
  setInterval(() => !document.hidden && timeline.endsNow && load(), AVERAGE_EVERY_MS);
  setInterval(() => live.state !== "live" && !document.hidden && refresh(), WITHOUT_STREAM_MS);
  setInterval(() => stats && age(), 1_000);
  document.addEventListener("visibilitychange", () => document.hidden || (timeline.endsNow && load()));
  return { recolour: () => chart.recolour() };

  async function refresh() {
    try {
      take(await get("/v1/stats"));
      live.answered();
    } catch {
      if (!stats) notice("The server does not answer. The page tries again by itself.");
    }
  }

  function notice(text) {
    const place = field(main, "notice");
    place.hidden = text == null;
    if (text != null) write(place, text);
  }

  function take(found) {
    stats = found;
    const { suspicious } = found;
    put("lead", `Every influencer, ${every(found.intervalSeconds)}.`);
    put("average", format.count(found.averageFollowerCount));
    put("average-over", found.observed ? `across ${format.count(found.observed)} influencers` : "");
    put("influencers", format.count(found.influencers));
    put("observed", found.observed === found.influencers ? "all observed" : `${format.count(found.observed)} observed`);
    put("coverage", format.share(found.coverage));
    put("rate", format.rate(found.observationsPerSecond));
    put("rows", `${format.compact(found.observationsTotal)} kept`);
    put("suspicious", format.count(suspicious.suspicious));
    put("unclassified", suspicious.unknown ? `${format.count(suspicious.unknown)} not classified yet` : `${format.count(suspicious.notSuspicious)} are not`);
    age();
  }

  /** Freshness grows while nothing arrives, also when the server says nothing about it. */
  function age() {
    const since = Math.max(0, now() / 1_000 - Date.parse(stats.asOf) / 1_000);
    const older = since > 5 ? since : 0; // between two views nothing is late
    const fresh = stats.freshnessSeconds;
    put("freshness", fresh ? format.duration(fresh.p50 + older) : format.NOTHING);
    put("freshness-p99", fresh ? `median age; 99% within ${format.duration(fresh.p99 + older)}` : "");
    const late = fresh != null && fresh.p50 + older > lateSeconds(stats.intervalSeconds);
    field(main, "freshness").classList.toggle("late", late);
    if (live.state === "gone") notice(`The server does not answer. What is shown is of ${format.clock(Date.parse(stats.asOf) / 1_000)}.`);
    else if (!stats.observed) notice("Nothing has been observed yet. The page fills by itself with the first answers of the API; if none come within a minute, the log of Tidemark says why.");
    else if (late) notice(`Nothing new for a while: half of all observations are older than ${format.duration(fresh.p50 + older)}.`);
    else notice(null);
  }

  async function load() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const began = performance.now();
    const { from, to } = ranges.asked(timeline.range, now() / 1_000);
    try {
      points = series.placed(await get(address("/v1/stats/series", { from, to, step: "auto" }), { signal }), now() / 1_000);
      drawn = JSON.stringify(timeline.range);
      draw();
      plots.dataset.milliseconds = Math.round(performance.now() - began);
    } catch (error) {
      if (signal.aborted || drawn === JSON.stringify(timeline.range)) return; // what is shown stays
      chart.say(`${error.title}.`, h("button", { type: "button", click: load }, "Try again"));
    }
    plots.dataset.range = ranges.isZoomed(timeline.range) ? "zoomed" : timeline.range.preset;
  }

  function draw() {
    timeline.times = points.at;
    const rolled = points.step !== "raw";
    const columns = [points[average.name], ...(rolled ? [series.edge(points[`${average.name}Max`], Math.max), series.edge(points[`${average.name}Min`], Math.min)] : [])];
    const stepS = series.stepSeconds(points);
    const [time, values, max, min] = series.withGaps(points.at, columns, stepS);
    chart.draw({ time, lines: [{ label: "all influencers", token: "--series-1", values, max, min }], shown: timeline.shown, whole: true });
    const told = points.time.length
      ? `Average followers from ${format.time(points.time[0])} to ${format.time(points.time.at(-1))}: at last ${average.write(points[average.name].at(-1))}, ${points.time.length} points.`
      : "No values in this range.";
    write(chart.summary, told);
    chart.say(points.time.length ? null : "No averages in this range yet: there is one every minute.");
    tellAt(timeline.at);
  }

  function tellAt(atS) {
    if (!points) return;
    const at = atS == null ? points.time.length - 1 : series.nearest(points.at, atS, series.GAP_STEPS * series.stepSeconds(points));
    const when = at < 0 ? "" : (atS == null ? "latest · " : "") + format.pointTime(points.time[at], points.step);
    tell(chart.readout, when, [{ token: "--series-1", label: "", text: average.write(at < 0 ? null : points[average.name][at]) }]);
  }
}
