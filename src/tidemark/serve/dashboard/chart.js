// How is one measure drawn over time? uPlot with our colours, gaps, band, marks and keys.

import uPlot from "./vendor/uPlot.esm.js";
import { h, save } from "./dom.js";
import { colour } from "./theme.js";
import { ticks } from "./format.js";

const AXIS_LEAST_PX = 58;
const AXIS_GAP_PX = 8; // between a label and the plot
const TIME_LABEL_HALF_PX = 32; // the last one may stand at the very end
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const MARK_PX = 4;
const DRAG_LEAST_PX = 6; // a shorter drag is a click with an unsteady hand

const WHOLE_STEPS = Array.from({ length: 11 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

const HOUR = 3_600;
const DAY = 24 * HOUR;
// Step of the ticks, then the label, and what is added where the year or the day changes.
const TIME_LABELS = [
  [365 * DAY, "{YYYY}", null, null, null, null, null, null, 1],
  [28 * DAY, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [HOUR, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
];

/**
 * One chart in a <figure>. The handlers of `on`: cursor(time or null), zoom(from, to), reset(), key(event); and
 * charts(), those of the page: their value axes are equally wide, so that their times stand below each other.
 * `draw` is given what to show; everything is in Unix seconds.
 */
export class Chart {
  #plot = null;
  #palette = {};
  #shown = [0, 1];
  #lines = [];
  #marks = [];
  #heightPx;
  #on;
  #axisNeedsPx = AXIS_LEAST_PX; // for the widest label of this chart
  #axisPx = AXIS_LEAST_PX; // as it is drawn

  constructor(place, { title, heightPx, on, pngName }) {
    this.title = title;
    this.#heightPx = heightPx;
    this.#on = on;
    const id = `plot-${title.toLowerCase().replaceAll(" ", "-")}`;
    this.readout = h("p", { class: "readout" });
    this.area = h("div", {
      class: "plot",
      tabindex: "0",
      role: "group",
      "aria-roledescription": "chart",
      "aria-labelledby": `${id}-title`,
      "aria-describedby": `${id}-summary`,
      keydown: (event) => this.#on.key(event),
    });
    this.empty = h("div", { class: "plot-empty", hidden: true });
    this.summary = h("p", { class: "hidden", id: `${id}-summary` });
    this.figure = h(
      "figure",
      { class: "card chart" },
      h(
        "figcaption",
        {},
        h("h3", { id: `${id}-title` }, title),
        this.readout,
        h("button", { type: "button", class: "small", title: `Save the chart of ${title} as an image`, click: () => this.png(pngName()) }, "PNG", h("span", { class: "hidden" }, ` of ${title}`)),
      ),
      h("div", { class: "plot-frame" }, this.area, this.empty),
      this.summary,
    );
    place.append(this.figure);
    this.area.addEventListener("dblclick", () => this.#on.reset());
    this.#touch();
    new ResizeObserver(() => this.#resize()).observe(this.area);
  }

  /**
   * Show lines over a time axis from `shown[0]` to `shown[1]`.
   *
   * `time` is shared by all lines, {label, token (of its colour), values, min?, max?}; null is a gap, undefined no point.
   * `marks` is [{time, value, title}]; `writeTicks` overrides how the axis is written; `whole` says that there is
   * nothing between 50 and 51.
   */
  draw({ time, lines, shown, marks = [], writeTicks = ticks, whole = false }) {
    this.#shown = shown;
    this.#marks = marks;
    const data = [time];
    for (const line of lines) {
      data.push(line.values);
      if (line.max) data.push(line.max, line.min);
    }
    const shape = JSON.stringify([whole, lines.map((line) => [line.label, line.token, Boolean(line.max)])]);
    if (this.#plot && shape === this.shape && writeTicks === this.writeTicks) {
      this.#lines = lines;
      this.#plot.setData(data);
      return;
    }
    this.#lines = lines;
    this.shape = shape;
    this.writeTicks = writeTicks;
    this.#build(data, whole);
  }

  /** Take the colours of the theme anew. */
  recolour() {
    this.#colours();
    this.#plot?.redraw(false);
  }

  /** Put the crosshair at a time without telling anybody; null takes it away. */
  point(atS) {
    if (!this.#plot) return;
    const left = atS == null ? -10 : this.#plot.valToPos(atS, "x");
    this.#plot.setCursor({ left, top: -10 }, false);
  }

  /** Say instead of drawing: a sentence, with a button or without; null shows the chart. */
  say(text, button = null) {
    this.empty.hidden = text == null;
    this.empty.replaceChildren(...[text && h("p", {}, text), button].filter(Boolean));
  }

  /** Save the chart, with its title, as an image. */
  png(name) {
    if (!this.#plot) return;
    const source = this.#plot.ctx.canvas;
    const scale = devicePixelRatio || 1;
    const head = Math.round(34 * scale);
    const canvas = h("canvas", { width: source.width, height: source.height + head });
    const context = canvas.getContext("2d");
    context.fillStyle = this.#palette["--surface"];
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.textBaseline = "middle";
    context.font = `600 ${14 * scale}px system-ui, sans-serif`;
    context.fillStyle = this.#palette["--text"];
    let x = 12 * scale;
    context.fillText(this.title, x, head / 2);
    x += context.measureText(this.title).width + 18 * scale;
    context.font = `${12 * scale}px system-ui, sans-serif`;
    for (const line of this.#lines) {
      context.fillStyle = this.#palette[line.token];
      context.fillRect(x, head / 2 - scale, 14 * scale, 2.5 * scale);
      x += 20 * scale;
      context.fillStyle = this.#palette["--muted"];
      context.fillText(line.label, x, head / 2);
      x += context.measureText(line.label).width + 18 * scale;
    }
    context.drawImage(source, 0, head);
    canvas.toBlob((blob) => blob && save(blob, `${name}-${this.title.toLowerCase().replaceAll(" ", "-")}.png`), "image/png");
  }

  #colours() {
    for (const token of ["--text", "--muted", "--line", "--surface", "--series-1", "--series-2", "--band", "--mark"]) {
      this.#palette[token] = colour(token);
    }
  }

  #build(data, whole) {
    this.#plot?.destroy();
    this.#colours();
    const paint = (token) => () => this.#palette[token];
    const series = [{}];
    const bands = [];
    for (const line of this.#lines) {
      series.push({
        label: line.label,
        stroke: paint(line.token),
        width: 1.75,
        pxAlign: 0,
        points: { show: isSparse, size: 5, fill: paint(line.token) },
      });
      if (line.max) {
        bands.push({ series: [series.length, series.length + 1], fill: paint("--band") });
        series.push({ points: { show: false } }, { points: { show: false } });
      }
    }
    const axis = { font: FONT, stroke: paint("--muted"), ticks: { show: false }, gap: AXIS_GAP_PX };
    const grid = { stroke: paint("--line"), width: 1 };
    this.#plot = new uPlot(
      {
        width: Math.max(200, this.area.clientWidth),
        height: this.#heightPx,
        padding: [10, TIME_LABEL_HALF_PX, 0, 0],
        legend: { show: false },
        series,
        bands,
        scales: { x: { time: true, range: () => this.#shown }, y: { range: (plot, low, high) => padded(low, high) } },
        axes: [
          { ...axis, grid: { show: false }, values: TIME_LABELS, space: 64 },
          { ...axis, grid, size: (plot, labels) => this.#axisSize(plot, labels), space: 28, incrs: whole ? WHOLE_STEPS : undefined, values: (plot, splits, index, space, step) => this.writeTicks(splits, step) },
        ],
        cursor: {
          y: false,
          move: (plot, left, top) => [snapped(plot, left), top],
          points: { size: 8, fill: (plot, index) => series[index].stroke?.() ?? "transparent", stroke: (plot, index) => (series[index].stroke ? this.#palette["--surface"] : "transparent") },
          drag: { x: true, y: false, setScale: false, dist: DRAG_LEAST_PX },
        },
        hooks: {
          setCursor: [(plot) => this.#on.cursor(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null)],
          setSelect: [(plot) => this.#selected(plot)],
          draw: [(plot) => this.#drawMarks(plot), () => this.#align()],
        },
      },
      data,
      this.area,
    );
  }

  /** How wide the value axis is: labels that are cut off are read as other numbers. */
  #axisSize(plot, labels) {
    if (labels?.length) {
      plot.ctx.save();
      plot.ctx.font = FONT;
      const widest = Math.max(...labels.map((label) => plot.ctx.measureText(label ?? "").width));
      plot.ctx.restore();
      this.#axisNeedsPx = Math.max(AXIS_LEAST_PX, Math.ceil(widest) + AXIS_GAP_PX + 2);
    }
    return (this.#axisPx = Math.max(...this.#on.charts().map((chart) => chart.#axisNeedsPx), this.#axisNeedsPx));
  }

  /** The others follow when this one's labels became wider or narrower. */
  #align() {
    for (const chart of this.#on.charts()) {
      if (chart.#plot && chart.#axisPx !== this.#axisPx) queueMicrotask(() => chart.#plot.redraw(false, true));
    }
  }

  #selected(plot) {
    const { left, width } = plot.select;
    if (width < DRAG_LEAST_PX) return;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.#on.zoom(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
  }

  #drawMarks(plot) {
    const context = plot.ctx;
    const size = MARK_PX * (devicePixelRatio || 1);
    context.save();
    context.beginPath();
    context.rect(plot.bbox.left, plot.bbox.top - 2 * size, plot.bbox.width, plot.bbox.height + 4 * size);
    context.clip();
    for (const mark of this.#marks) {
      if (mark.value == null) continue;
      const x = plot.valToPos(mark.time, "x", true);
      const y = plot.valToPos(mark.value, "y", true);
      context.beginPath();
      context.moveTo(x, y - size);
      context.lineTo(x + size, y);
      context.lineTo(x, y + size);
      context.lineTo(x - size, y);
      context.closePath();
      context.fillStyle = this.#palette["--mark"];
      context.strokeStyle = this.#palette["--surface"];
      context.lineWidth = 1.5 * (devicePixelRatio || 1);
      context.fill();
      context.stroke();
    }
    context.restore();
  }

  #resize() {
    const width = this.area.clientWidth;
    if (this.#plot && width && width !== this.#plot.width) this.#plot.setSize({ width, height: this.#heightPx });
  }

  /** A finger moves the crosshair; up and down still scrolls the page (touch-action in the style). */
  #touch() {
    const move = (event) => {
      if (event.pointerType !== "touch" || !this.#plot) return;
      const box = this.#plot.over.getBoundingClientRect();
      this.#plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
    };
    this.area.addEventListener("pointerdown", move);
    this.area.addEventListener("pointermove", move);
  }
}

/** Write what a chart's lines are worth at the crosshair: [{token, label, text}]. */
export function tell(readout, when, values) {
  const key = JSON.stringify([when, values]);
  if (readout.dataset.key === key) return;
  readout.dataset.key = key;
  readout.replaceChildren(
    ...values.map((value) =>
      h("span", { class: "value" }, h("i", { class: `swatch ${value.token.slice(2)}`, "aria-hidden": "true" }), value.label && h("span", { class: "muted" }, value.label), h("b", {}, value.text), value.extra && h("span", { class: "muted" }, value.extra)),
    ),
    h("time", {}, when),
  );
}

/** The place of the point nearest to the pointer: the crosshair stands on points, in all charts on the same. */
function snapped(plot, left) {
  if (left < 0 || !plot.data[0].length) return left;
  const place = plot.valToPos(plot.data[0][plot.posToIdx(left)], "x");
  return place < 0 || place > plot.over.clientWidth ? left : place;
}

/** Points are drawn where they are few: a single one between gaps would not be seen as a line. */
function isSparse(plot, index) {
  const values = plot.data[index];
  let seen = 0;
  for (const value of values) if (value != null && ++seen > 60) return false;
  return true;
}

/** The ends of the value axis: a little air, never below zero when nothing is, and never of no height. */
function padded(low, high) {
  if (low == null || high == null) return [0, 1];
  const height = high - low || Math.abs(high) * 0.1 || 1;
  const bottom = low - height * 0.08;
  return [low >= 0 ? Math.max(0, bottom) : bottom, high + height * 0.1];
}
