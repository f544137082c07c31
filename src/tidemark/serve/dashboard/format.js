// How are numbers and times written? For people: 57,166 and not 57166.0; times in the reader's zone.

const LANGUAGE = "en";
const whole = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 0 });
const two = new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const one = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat(LANGUAGE, { notation: "compact", maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "always" });
const clockTime = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const day = { day: "numeric", month: "short", year: "numeric" };
const moment = new Intl.DateTimeFormat("en-GB", { ...day, ...clockTime });
const zoned = new Intl.DateTimeFormat("en-GB", { ...day, ...clockTime, timeZoneName: "short" });
const clocked = new Intl.DateTimeFormat("en-GB", clockTime);
const hourTime = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const minuteOf = { ...day, ...hourTime };
const minute = new Intl.DateTimeFormat("en-GB", minuteOf);
const minuteZoned = new Intl.DateTimeFormat("en-GB", { ...minuteOf, timeZoneName: "short" });
const hour = new Intl.DateTimeFormat("en-GB", hourTime);
const hourZoned = new Intl.DateTimeFormat("en-GB", { ...hourTime, timeZoneName: "short" });
const utcDate = new Intl.DateTimeFormat("en-GB", { ...day, timeZone: "UTC" });

export const NOTHING = "–";
const MINUS = "\u2212";

/** 57,166 */
export const count = (value) => (value == null ? NOTHING : whole.format(value).replace("-", MINUS));

/** "1 gap", "2 gaps" */
export const some = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** 43.05 */
export const ratio = (value) => (value == null ? NOTHING : two.format(value).replace("-", MINUS));

/** 16,667 or, where it is small, 3.4 */
export const rate = (value) => (value == null ? NOTHING : (value < 100 ? one : whole).format(value));

/** 57.2K */
export const compact = (value) => (value == null ? NOTHING : short.format(value));

/** 99.98%; only a true whole is 100%. */
export function share(value) {
  if (value == null) return NOTHING;
  return value === 1 ? "100%" : `${(Math.floor(value * 10_000) / 100).toFixed(2)}%`;
}

/** +1,234 or −56 or 0, by the given way of writing. */
export function signed(value, write = count) {
  if (value == null) return NOTHING;
  const text = write(Math.abs(value));
  if (!/[1-9]/.test(text)) return text;
  return (value > 0 ? "+" : MINUS) + text;
}

/** +1.23%, of a change in percent. */
export const change = (value) => (value == null ? NOTHING : `${signed(value, ratio)}%`);

/** 48 s, 3 min, 2.5 h or 4 days, of a duration in seconds. */
export function duration(seconds) {
  if (seconds == null) return NOTHING;
  if (seconds < 120) return `${one.format(seconds < 10 ? seconds : Math.round(seconds))} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${one.format(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** "12 seconds ago" of a time that lies so many seconds back; a little in the future is now. */
export function ago(seconds) {
  if (seconds < 2) return "just now";
  if (seconds < 100) return relative.format(-Math.round(seconds), "second");
  if (seconds < 5_400) return relative.format(-Math.round(seconds / 60), "minute");
  if (seconds < 129_600) return relative.format(-Math.round(seconds / 3_600), "hour");
  return relative.format(-Math.round(seconds / 86_400), "day");
}

/** "01:38:08", of Unix seconds. */
export const clock = (atS) => clocked.format(atS * 1_000);

/** "23 Nov 2026, 01:38:08", of Unix seconds. */
export const time = (atS) => moment.format(atS * 1_000);

/** The same with the zone: "23 Nov 2026, 01:38:08 CET". */
export const timeWithZone = (atS) => zoned.format(atS * 1_000);

/**
 * The time of a point of this step: a moment, or the period that it is of. Days are those of UTC, as they are kept. With
 * the zone on a day on which clocks are set: two of its hours may be called the same.
 */
export function pointTime(atS, step) {
  if (step === "1d") return `${utcDate.format(atS * 1_000)} (UTC)`;
  const [toTheSecond, toTheMinute, ofTheDay] = clocksAreSet(atS) ? [zoned, minuteZoned, hourZoned] : [moment, minute, hour];
  if (step === "1h") return `${toTheMinute.format(atS * 1_000)} to ${ofTheDay.format((atS + 3_600) * 1_000)}`;
  return (step === "1m" ? toTheMinute : toTheSecond).format(atS * 1_000);
}

function clocksAreSet(atS) {
  const at = new Date(atS * 1_000);
  const [year, month, date] = [at.getFullYear(), at.getMonth(), at.getDate()];
  return new Date(year, month, date).getTimezoneOffset() !== new Date(year, month, date + 1).getTimezoneOffset();
}

/** The reader's time zone: "Europe/Berlin (GMT+1)". */
export function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local time";
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "shortOffset" }).formatToParts(new Date());
  const offset = parts.find((part) => part.type === "timeZoneName")?.value;
  return offset && offset !== name ? `${name} (${offset})` : name;
}

/** How many decimals write a step in full: 1 for 2.5; at most 4. */
export function decimals(step) {
  let digits = 0;
  while (digits < 4 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  return digits;
}

/**
 * The labels of an axis whose ticks are `step` apart: compact where that tells them apart, else in full.
 */
export function ticks(values, step) {
  const largest = Math.max(...values.map(Math.abs));
  const [unit, letter] = largest >= 1e6 ? [1e6, "M"] : largest >= 1e4 ? [1e3, "K"] : [1, ""];
  const digits = decimals(step / unit);
  if (unit > 1 && digits > 2) return values.map(count);
  const write = new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return values.map((value) => write.format(value / unit).replace("-", MINUS) + (value === 0 ? "" : letter));
}
