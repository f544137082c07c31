// Who has the most, and who gains and loses the most? Three lists, renewed calmly while they are seen.

import { address, get } from "./api.js";
import { choice, field, h, write } from "./dom.js";
import * as format from "./format.js";

const EVERY_MS = 10_000;
const ROWS = 10;

/** Put the lists into the page; what is listed stands in the URL. */
export function install(main) {
  let window, who;
  read();
  let asking = null;
  const place = field(main, "boards");
  const lists = [
    { name: "most", title: () => "Most followers", path: "/v1/leaderboard", query: () => ({}) },
    { name: "up", title: () => `Biggest gains, ${window}`, path: "/v1/leaderboard/gains", query: () => ({ window, direction: "up" }) },
    { name: "down", title: () => `Biggest losses, ${window}`, path: "/v1/leaderboard/gains", query: () => ({ window, direction: "down" }) },
  ].map((list) => {
    const heading = h("h3", { id: `list-${list.name}` });
    const since = h("p", { class: "muted" });
    const body = h("div", { class: "board-body" });
    place.append(h("section", { class: "card board", "aria-labelledby": heading.id, "data-list": list.name }, h("div", { class: "row" }, heading, since), body));
    return { ...list, heading, since, body };
  });
  const pressWindow = choice(
    field(main, "window"),
    [["1h", "1h", "Gains and losses over an hour"], ["24h", "24h", "Gains and losses over a day"]],
    (value) => change(() => (window = value)),
  );
  const pressWho = choice(
    field(main, "who"),
    [["all", "Everybody", "All influencers"], ["exclude", "Without suspicious", "Without those who are known to be suspicious"]],
    (value) => change(() => (who = value)),
  );
  show();
  load();
  setInterval(() => !document.hidden && load(), EVERY_MS);
  document.addEventListener("visibilitychange", () => document.hidden || load());
  addEventListener("popstate", () => {
    read();
    show();
    load();
  });

  function read() {
    const query = new URLSearchParams(location.search);
    window = query.get("window") === "24h" ? "24h" : "1h";
    who = query.get("suspicious") === "exclude" ? "exclude" : "all";
  }

  function change(set) {
    set();
    const url = new URLSearchParams(location.search);
    url.set("window", window);
    if (who === "all") url.delete("suspicious");
    else url.set("suspicious", who);
    history.replaceState(null, "", `?${url}`);
    show();
    load();
  }

  function show() {
    pressWindow(window);
    pressWho(who);
    for (const list of lists) write(list.heading, list.title());
  }

  async function load() {
    asking?.abort();
    const { signal } = (asking = new AbortController());
    const suspicious = who === "all" ? null : who;
    await Promise.all(
      lists.map(async (list) => {
        try {
          const answer = await get(address(list.path, { ...list.query(), limit: ROWS, suspicious }), { signal });
          fill(list, answer);
        } catch (error) {
          if (!signal.aborted && !list.body.children.length) list.body.replaceChildren(h("p", { class: "muted" }, `${error.title}.`));
        }
      }),
    );
  }

  function fill(list, answer) {
    const gains = list.name !== "most";
    const items = gains ? answer.items.filter((item) => (list.name === "up" ? item.followerGain > 0 : item.followerGain < 0)) : answer.items;
    write(list.since, answer.since ? `since ${format.pointTime(Date.parse(answer.since) / 1_000, "1m")}` : "");
    if (!items.length) {
      const why = !gains
        ? "Nobody has been observed yet."
        : answer.since
          ? `Nobody ${list.name === "up" ? "gained" : "lost"} followers in this time.`
          : `There is nothing to compare with yet: it takes ${window === "1h" ? "an hour" : "a day"} of observations.`;
      return list.body.replaceChildren(h("p", { class: "muted" }, why));
    }
    const focused = list.body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    list.body.replaceChildren(
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h("tr", {}, h("th", { scope: "col" }, gains ? h("span", { class: "hidden" }, "Place") : "Rank"), h("th", { scope: "col" }, "Influencer"), gains ? h("th", { scope: "col", class: "number" }, list.name === "up" ? "Gain" : "Loss") : null, h("th", { scope: "col", class: "number" }, "Followers")),
        ),
        h("tbody", {}, ...items.map((item, index) => row(item, gains ? index + 1 : item.rank, gains))),
      ),
    );
    if (focused) list.body.querySelector(`a[href="${focused}"]`)?.focus({ preventScroll: true });
  }

  function row(item, place, gains) {
    const flag = item.suspicious ? document.getElementById("flag").content.cloneNode(true) : null;
    return h(
      "tr",
      {},
      h("td", { class: "place" }, format.count(place)),
      h("td", { class: "name" }, h("div", {}, h("a", { href: `/influencers/${item.pk}` }, item.username ?? `pk ${item.pk}`), flag)),
      gains ? h("td", { class: `number ${item.followerGain > 0 ? "up" : "down"}` }, format.signed(item.followerGain)) : null,
      h("td", { class: "number" }, format.count(item.followerCount)),
    );
  }
}
