// What time is it for the server? A reader's clock may be wrong by minutes, and "2 minutes ago" must not be.

const NOTICEABLE_MS = 3_000; // the Date header counts whole seconds, and an answer takes a while
const LATE_MIN_S = 180;
const LATE_INTERVALS = 3;
let offsetMs = 0;

/** Take note of an answer's Date header. */
export function heard(response) {
  const told = Date.parse(response.headers.get("Date") ?? "");
  if (Number.isNaN(told)) return;
  const difference = told + 500 - Date.now();
  offsetMs = Math.abs(difference) > NOTICEABLE_MS ? difference : 0;
}

/** From which age on an observation is late where everybody is observed every `intervalS` seconds. */
export function lateSeconds(intervalS) {
  return Math.max(LATE_MIN_S, LATE_INTERVALS * intervalS);
}

/** Unix milliseconds by the server's clock. */
export function now() {
  return Date.now() + offsetMs;
}
