// What is there to see of one influencer? The latest values, live, with changes; the history below.

import { get } from "./api.js";
import { lateSeconds, now } from "./clock.js";
import { field, h, stamp, write } from "./dom.js";
import * as format from "./format.js";
import { History } from "./history.js";

const CHANGES_EVERY_MS = 60_000;
const ONWARD_MS = 30_000; // the axis goes on though nothing comes
const WITHOUT_STREAM_MS = 15_000; // so often the values are asked for while there is no stream
const WINDOWS = ["1h", "24h", "7d"];
const VALUES = [
  ["followerCount", format.count],
  ["followingCount", format.count],
  ["followerRatio", format.ratio],
];

/** Show the page of `pk`, as the URL has it, in `main`; `live` is the tab's stream. Returns what a new theme needs. */
export function show(main, pk, live) {
  stamp(main, "influencer");
  const put = (name, text) => write(field(main, name), text);
  const notice = field(main, "notice");
  let latest = null;
  let total = null;
  let intervalS = 0;
  let known = true;
  let previous = null; // the observation before `latest`
  let changed = null; // what the server told of changes, until the observation is here up to which it did
  let before = null; // window -> {measure: value then}
  const number = Number(pk);
  document.title = `pk ${pk} · Tidemark`;
  put("name", `pk ${pk}`);
  put("pk", `pk ${pk}`);

  const history = new History(main, number, (pks) => queueMicrotask(() => known && live.watch(pks)));
  history.load();
  refresh();
  changes();
  live.addEventListener("observation", (event) => {
    if (event.detail.pk === number) take(event.detail);
    history.observe(event.detail);
  });
  live.addEventListener("stats", (event) => {
    total = event.detail.observed;
    intervalS = event.detail.intervalSeconds;
    rank();
  });
  live.addEventListener("back", () => {
    refresh();
    history.load();
    changes();
  });
  setInterval(age, 1_000);
  setInterval(() => !document.hidden && history.goOn(), ONWARD_MS);
  setInterval(() => !document.hidden && changes(), CHANGES_EVERY_MS);
  setInterval(() => live.state !== "live" && !document.hidden && refresh(), WITHOUT_STREAM_MS);
  document.addEventListener("visibilitychange", () => document.hidden || changes());
  return { recolour: () => history.recolour(), pks: () => (known ? history.pks : []) };

  async function refresh() {
    try {
      const found = await get(`/v1/influencers/${encodeURIComponent(pk)}`);
      take(found);
      history.observe(found);
      live.answered();
    } catch (error) {
      if (error.status === 422) unknown(error);
      else if (error.status === 404) {
        tell(`${error.title}. ${pk} is watched; the page fills by itself with the first observation.`);
        history.neverObserved();
      } else if (!latest) tell("The server does not answer. The page tries again by itself.");
    }
  }

  function unknown(error) {
    known = false;
    live.watch([]); // the header still tells whether the server is there
    field(main, "body").hidden = true;
    document.title = "Unknown influencer · Tidemark";
    put("name", "Nobody here");
    notice.replaceChildren(
      `${error.detail[0].toUpperCase()}${error.detail.slice(1)}. `,
      h("a", { href: "/" }, "Go to the overview"),
      " or search above.",
    );
    notice.hidden = false;
  }

  function tell(text) {
    write(notice, text);
    notice.hidden = false;
  }

  function take(found) {
    if (latest && Date.parse(found.observedAt) < Date.parse(latest.observedAt)) return;
    if (latest?.observedAt !== found.observedAt) previous = latest;
    latest = found;
    notice.hidden = true;
    document.title = `${found.username ?? `pk ${pk}`} · Tidemark`;
    put("name", found.username ?? `pk ${pk}`);
    for (const [name, writeValue] of VALUES) put(name, writeValue(found[name]));
    verdict();
    rank();
    countChanges();
    age();
  }

  function verdict() {
    const tag = field(main, "verdict");
    const kind = latest.suspicious == null ? "unknown" : latest.suspicious ? "bad" : "good";
    const word = { unknown: "Not classified yet", bad: "Suspicious", good: "Not suspicious" }[kind];
    const at = latest.suspiciousCheckedAt && Date.parse(latest.suspiciousCheckedAt) / 1_000;
    tag.className = `tag verdict ${kind}`;
    tag.hidden = false;
    tag.title = at ? `Decided ${format.timeWithZone(at)}` : "Everybody is classified once a day";
    write(tag, at ? `${word} · decided ${format.ago(now() / 1_000 - at)}` : word);
  }

  function rank() {
    if (!latest) return;
    put("rank", format.count(latest.rank));
    put("total", total ? `of ${format.count(total)}` : "");
    const better = Math.floor(latest.percentile * 100) / 100;
    put("percentile", `above ${better === 100 ? "100" : better.toFixed(2)}% of the others`);
  }

  function age() {
    if (!latest) return;
    const at = Date.parse(latest.observedAt) / 1_000;
    const seconds = now() / 1_000 - at;
    const late = seconds > lateSeconds(intervalS);
    const place = field(main, "observed");
    place.classList.toggle("late", late);
    const text = `Last observed ${format.ago(seconds)}`;
    write(place, `${text} · ${format.timeWithZone(at)}${late ? " · nothing newer has come since" : ""}`);
    verdict();
  }

  async function changes() {
    try {
      changed = await get(`/v1/influencers/${encodeURIComponent(pk)}/changes`);
    } catch {
      // What changed is a minute old at most; next time.
    }
    countChanges();
  }

  /** From which values the changes count: those of the observation up to which they were told, less what they were. */
  function countChanges() {
    // Another observation may have come before or after; then the next one will do.
    const told = changed && [latest, previous].find((one) => one && Date.parse(one.observedAt) === Date.parse(changed.asOf));
    if (told) {
      before = new Map(
        changed.changes.map((change) => [
          change.window,
          { since: change.since, ...Object.fromEntries(VALUES.map(([name]) => [name, change[name] == null ? null : told[name] - change[name]])) },
        ]),
      );
      changed = null;
    }
    showChanges();
  }

  /** Now minus then; now is newer than when `before` was asked for. */
  function showChanges() {
    for (const [name, writeValue] of VALUES) {
      const list = main.querySelector(`[data-changes="${name}"]`);
      list.replaceChildren(
        ...WINDOWS.map((window) => {
          const then = before?.get(window);
          const change = then?.[name] == null || latest?.[name] == null ? null : latest[name] - then[name];
          const written = format.signed(change, writeValue);
          const way = change == null || !/[1-9]/.test(written) ? "" : change > 0 ? "up" : "down";
          const title = then?.since ? `Since ${format.timeWithZone(Date.parse(then.since) / 1_000)}` : "Nothing to compare with yet";
          return h("div", { title }, h("dt", {}, window), h("dd", { class: way }, written));
        }),
      );
    }
  }
}
