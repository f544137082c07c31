// What do the charts say to somebody who cannot see them? The same values as a table, the newest first.

import { h } from "./dom.js";
import { count, pointTime } from "./format.js";

const ROWS_MOST = 50; // more is for the CSV

/** Fill `place` with the newest points of each shown influencer: {name, series}. */
export function fill(place, shown, measures) {
  place.replaceChildren(
    ...shown.map(({ name, series }) => {
      const all = series.time.length;
      const rows = [];
      for (let i = all - 1; i >= Math.max(0, all - ROWS_MOST); i--) {
        rows.push(
          h(
            "tr",
            {},
            h("th", { scope: "row" }, pointTime(series.time[i], series.step)),
            ...measures.map((measure) => h("td", {}, measure.write(series[measure.name][i]))),
          ),
        );
      }
      const told = all > ROWS_MOST ? `, the newest ${ROWS_MOST} of ${count(all)}; the CSV has all` : "";
      return h(
        "table",
        {},
        h("caption", {}, `${name}${told}`),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), ...measures.map((measure) => h("th", { scope: "col" }, measure.title)))),
        h("tbody", {}, ...rows),
      );
    }),
  );
}
