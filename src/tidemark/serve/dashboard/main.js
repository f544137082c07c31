// Which page is this? The header that both pages have, the one stream of the tab, and the page that the path names.

import { field, stamp, write } from "./dom.js";
import * as format from "./format.js";
import * as influencer from "./influencer.js";
import { Live } from "./live.js";
import * as overview from "./overview.js";
import { install as searchBox } from "./search.js";
import * as theme from "./theme.js";

const main = document.getElementById("main");
const wanted = /^\/influencers\/([^/]+)\/?$/.exec(location.pathname)?.[1];
const pk = wanted === undefined ? null : decoded(wanted);
const live = new Live();
const page = pk !== null ? influencer.show(main, pk, live) : location.pathname === "/" ? overview.show(main, live) : nothing();
live.watch(page.pks?.() ?? []);

theme.install(document.querySelector("[data-theme-button]"), () => page.recolour());
write(document.querySelector("[data-zone]"), format.zone());

const input = searchBox(document.querySelector("[data-search]"), {
  label: "Search an influencer by name or pk",
  placeholder: "Search a name or pk",
  chosen: (item) => location.assign(`/influencers/${item.pk}`),
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  input.focus();
});

const place = document.querySelector("[data-live]");
const words = {
  connecting: "Connecting",
  live: "Live",
  paused: "Paused",
  reconnecting: "Reconnecting",
  gone: "Server gone",
};
function showLive() {
  const broken = live.state === "reconnecting" || live.state === "gone";
  place.dataset.live = live.state;
  write(place.querySelector("[data-live-text]"), words[live.state]);
  write(place.querySelector("[data-live-since]"), broken ? `since ${format.clock(live.sinceMs / 1_000)}` : "");
}
live.addEventListener("state", showLive);
showLive();

function nothing() {
  document.title = "No such page · Tidemark";
  write(field(stamp(main, "nothing"), "path"), location.pathname);
  return { recolour() {} };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
