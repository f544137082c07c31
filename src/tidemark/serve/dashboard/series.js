// What do the points of a series tell? Gaps, unusual jumps, and how it goes on with a new observation. (pure)

export const GAP_STEPS = 2.5; // so many steps without a point are a gap: one missed poll is none
const STEP_S = { "1m": 60, "1h": 3_600, "1d": 86_400 };

const JUMP_SPREADS = 8; // so many robust standard deviations from the usual difference are unusual
const MAD_TO_DEVIATION = 1.4826; // of a normal distribution
const MEAN_TO_DEVIATION = 1.2533; // likewise, of the mean absolute deviation
const JUMP_LEAST_SHARE = 0.01; // below 1% of the usual value nobody calls it a jump, however calm the rest is
const JUMP_POINTS_LEAST = 12; // fewer differences have no "usual"
const JUMPS_MOST = 24; // the largest are marked: a chart full of marks marks nothing

export const MEASURES = ["followerCount", "followingCount", "followerRatio"];

/** An empty series of the columns that the API's answers have. */
export function empty(step = "raw") {
  return { step, time: [], at: [], followerCount: [], followingCount: [], followerRatio: [] };
}

/**
 * Give an answer of the API the column `at`: when each value was so. A period's value is that of its last observation,
 * so it stands at the period's end, the value of a period that goes on at the latest observation known (`nowS`).
 */
export function placed(series, nowS) {
  const stepS = STEP_S[series.step] ?? 0;
  series.at = series.time.map((time) => Math.min(time + stepS, Math.max(time, Math.floor(nowS))));
  return series;
}

/**
 * The lower or upper edge of the band at each point. A point stands where one period ends and the next begins, so the
 * edge there is the further one of both: the line never leaves the band.
 */
export function edge(values, further) {
  return values.map((value, index) => (index + 1 < values.length ? further(value, values[index + 1]) : value));
}

/** Seconds from one point to the next, usually: more than the step where one is observed more seldom. */
export function stepSeconds(series) {
  const apart = differences(series.time);
  return Math.max(STEP_S[series.step] ?? 1, apart.length ? median(apart) : 60);
}

/**
 * Columns with a row of nulls wherever points are more than GAP_STEPS apart, so that a chart shows the gap.
 * `columns` are arrays as long as `time`.
 */
export function withGaps(time, columns, stepS) {
  const far = stepS * GAP_STEPS;
  const out = [[], ...columns.map(() => [])];
  for (let i = 0; i < time.length; i++) {
    if (i > 0 && time[i] - time[i - 1] > far) {
      out[0].push(Math.round((time[i] + time[i - 1]) / 2));
      for (let c = 0; c < columns.length; c++) out[c + 1].push(null);
    }
    out[0].push(time[i]);
    for (let c = 0; c < columns.length; c++) out[c + 1].push(columns[c][i]);
  }
  return out;
}

/**
 * The indices of points that differ from the one before by far more than points usually do.
 *
 * A difference is unusual when it lies more than 8 robust standard deviations (1.4826 x the median absolute
 * deviation) from the median difference, and is at least 1% of the usual value. Where most differences are the same,
 * that deviation is 0, and 1.2533 x the mean absolute deviation takes its place (Iglewicz and Hoaglin, 1993): one step
 * of a count that rests stands out, the steps of one that has begun to move do not. Differences across a gap do not
 * count. At most 24, the largest.
 */
export function jumps(time, values, stepS) {
  const found = [];
  for (let i = 1; i < values.length; i++) {
    if (values[i] == null || values[i - 1] == null || time[i] - time[i - 1] > stepS * GAP_STEPS) continue;
    found.push({ index: i, change: values[i] - values[i - 1] });
  }
  if (found.length < JUMP_POINTS_LEAST) return [];
  const changes = found.map((one) => one.change);
  const usual = median(changes);
  const sizes = changes.map((change) => Math.abs(change - usual));
  const spread = MAD_TO_DEVIATION * median(sizes) || MEAN_TO_DEVIATION * mean(sizes);
  const level = Math.abs(median(values.filter((value) => value != null)));
  const bound = Math.max(JUMP_SPREADS * spread, JUMP_LEAST_SHARE * level, Number.EPSILON);
  return found
    .filter((one) => Math.abs(one.change - usual) > bound)
    .sort((a, b) => Math.abs(b.change - usual) - Math.abs(a.change - usual))
    .slice(0, JUMPS_MOST)
    .sort((a, b) => a.index - b.index);
}

/**
 * Let the series go on with an observation ({observedAt in seconds, followerCount, ...}): a point more or, for a
 * step, a newer value of its last period. Returns whether anything changed.
 */
export function append(series, observation) {
  const stepS = STEP_S[series.step];
  const at = stepS ? Math.floor(observation.at / stepS) * stepS : observation.at;
  const last = series.time.length - 1;
  if (last >= 0 && at < series.time[last]) return false;
  if (stepS && last >= 0) series.at[last] = Math.min(series.time[last] + stepS, Math.max(series.at[last], observation.at));
  if (last >= 0 && at === series.time[last]) {
    if (!stepS) return false;
    for (const measure of MEASURES) series[measure][last] = observation[measure];
    for (const measure of MEASURES.slice(0, 2)) {
      const value = observation[measure];
      series[`${measure}Min`][last] = Math.min(series[`${measure}Min`][last], value);
      series[`${measure}Max`][last] = Math.max(series[`${measure}Max`][last], value);
    }
    return true;
  }
  series.time.push(at);
  series.at.push(observation.at);
  for (const measure of MEASURES) series[measure].push(observation[measure]);
  if (stepS) {
    for (const measure of MEASURES.slice(0, 2)) {
      (series[`${measure}Min`] ??= []).push(observation[measure]);
      (series[`${measure}Max`] ??= []).push(observation[measure]);
    }
  }
  return true;
}

/** Forget the points before `fromS`, which the chart no longer shows. */
export function dropBefore(series, fromS) {
  const keep = series.time.findIndex((at) => at >= fromS);
  if (keep <= 0) return;
  for (const column of Object.values(series)) if (Array.isArray(column)) column.splice(0, keep);
}

/** The index of the point nearest to a time, at most `withinS` away; -1 where there is none. */
export function nearest(time, atS, withinS) {
  let low = 0;
  let high = time.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[middle] < atS) low = middle + 1;
    else high = middle;
  }
  if (low === time.length || (low > 0 && atS - time[low - 1] < time[low] - atS)) low--;
  return low >= 0 && Math.abs(time[low] - atS) <= withinS ? low : -1;
}

/** Values as change in percent since the first that is not zero: two influencers of any size become comparable. */
export function inPercent(columns) {
  const base = baseOf(columns[0]);
  return columns.map((column) => column.map((value) => percent(value, base)));
}

/** What change is counted from: the first value that is not zero, or undefined. */
export const baseOf = (values) => values.find((value) => value != null && value !== 0);

/** The change from `base` in percent; null where one of both is missing. */
export const percent = (value, base) => (value == null || base == null ? null : (100 * (value - base)) / base);

function differences(values) {
  const out = [];
  for (let i = 1; i < values.length; i++) out.push(values[i] - values[i - 1]);
  return out;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
