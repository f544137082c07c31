// Which stretch of time is shown? A preset that ends now, or a part that the reader zoomed into; kept in the URL.

export const PRESETS = [
  ["1h", 3_600],
  ["6h", 21_600],
  ["24h", 86_400],
  ["7d", 604_800],
  ["30d", 2_592_000],
  ["all", null],
];
export const DEFAULT = "24h";
export const SHORTEST_S = 60; // observations come by the minute or so: a closer look shows nothing more

const seconds = new Map(PRESETS);
const iso = (atS) => new Date(atS * 1_000).toISOString().replace(".000Z", "Z");

/**
 * The range in a URL's query: {preset, from, to}; `from` and `to` are Unix seconds, null unless zoomed. `unasked` where
 * the query names no preset. What cannot be understood is left out.
 */
export function read(query) {
  const unasked = !seconds.has(query.get("range"));
  const preset = unasked ? DEFAULT : query.get("range");
  const from = Date.parse(query.get("from") ?? "") / 1_000;
  const to = Date.parse(query.get("to") ?? "") / 1_000;
  return from >= 0 && to > from ? { preset, unasked, from, to } : { preset, unasked, from: null, to: null };
}

/** Write the range into a URL's query. */
export function write(query, range) {
  if (!range.unasked) query.set("range", range.preset);
  for (const end of ["from", "to"]) {
    if (range[end] == null) query.delete(end);
    else query.set(end, iso(range[end]));
  }
}

export const isZoomed = (range) => range.from != null;

/** The seconds from and to (exclusive) that the API is to be asked for; `to` is null where it is now. */
export function asked(range, nowS) {
  if (isZoomed(range)) return { from: Math.floor(range.from), to: Math.ceil(range.to) };
  const length = seconds.get(range.preset);
  return { from: length == null ? 0 : Math.floor(nowS) - length, to: null };
}

/**
 * The ends of the axis, in seconds; "all" begins with the first point, and so does a range that nobody asked for where
 * there is less than that: the first hours of a day would be a smear at its end.
 */
export function shown(range, nowS, firstS) {
  if (isZoomed(range)) return [range.from, range.to];
  const length = seconds.get(range.preset);
  const first = Math.min(firstS ?? nowS - 3_600, nowS - SHORTEST_S);
  if (length == null) return [first, nowS];
  return [range.unasked && firstS != null ? Math.max(nowS - length, first) : nowS - length, nowS];
}

/** The range after zooming by `factor` around `at`: below 1 is closer. Never shorter than SHORTEST_S. */
export function zoomed(range, [from, to], factor, at) {
  const length = Math.max(SHORTEST_S, (to - from) * factor);
  const share = Math.min(1, Math.max(0, (at - from) / (to - from)));
  const start = Math.max(0, Math.round(at - share * length));
  return { ...range, from: start, to: Math.round(start + length) };
}

/** The range after moving it by a share of its length. */
export function moved(range, [from, to], share, nowS) {
  const by = Math.min(Math.round((to - from) * share), Math.max(0, Math.ceil(nowS - to)));
  return { ...range, from: Math.max(0, Math.round(from + by)), to: Math.round(to + by) };
}

/** A dragged part as a range. */
export function between(range, from, to) {
  const middle = (from + to) / 2;
  const half = Math.max(SHORTEST_S, to - from) / 2;
  return { ...range, from: Math.round(middle - half), to: Math.round(middle + half) };
}
