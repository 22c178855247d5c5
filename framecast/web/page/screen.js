// Display of frames, the chart of earlier frames, and speed.

const $ = (id) => document.getElementById(id);
const KINDS = { real: "real frame", noise: "noise", dream: "predicted", hand: "edited", game: "played" };
const KEPT = 120;

/** Median and 95th percentile of the most recent values. */
class Recent {
  constructor() { this.values = []; }
  add(value) { this.values.push(value); if (this.values.length > KEPT) this.values.shift(); }
  at(share) {
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  }
  get text() { return this.values.length ? `${this.at(.5).toFixed(this.at(.5) < 10 ? 1 : 0)} ms, ${this.at(.95).toFixed(this.at(.95) < 10 ? 1 : 0)}` : "–"; }
}

export class Screen {
  constructor(hello) {
    this.hello = hello;
    $("screens").style.setProperty("--ratio", hello.width / hello.height);
    this.contexts = {};
    this.images = {};
    for (const id of ["dream", "truth"]) {
      const canvas = $(id);
      canvas.width = hello.width;
      canvas.height = hello.height;
      this.contexts[id] = canvas.getContext("2d", { alpha: false });
      this.images[id] = new ImageData(hello.width, hello.height);
      this.images[id].data.fill(255);
    }
    this.motion = { dream: new Map(), truth: new Map() };  // frame number -> mean change since the frame before
    this.before = { dream: null, truth: null };
    this.times = [];
    this.model = new Recent();
    this.waits = new Recent();
    this.pending = new Map();  // input id -> when it was made
    this.drawn = 0;
    new ResizeObserver(() => this.chart()).observe($("chart"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.chart());
    setInterval(() => this.vitals(), 250);
  }

  /** Register an input at `time` (ms, as in performance.now); the first frame that reflects it ends the measurement. */
  expect(id, time) {
    if (this.pending.size > 200) this.pending.clear();
    this.pending.set(id, time);
  }

  /** Draw a frame from its header and its pixels, RGB, image after image. */
  draw(header, pixels) {
    const size = this.hello.width * this.hello.height * 3;
    this.paint("dream", header, pixels.subarray(0, size));
    if (header.recorded) this.paint("truth", header, pixels.subarray(size, 2 * size));
    this.header = header;
    this.drawn += 1;
    document.body.dataset.drawn = this.drawn;
    document.body.dataset.number = header.number;
    document.body.dataset.kind = header.kind;
    document.body.dataset.answered = header.input;  // the newest request that this frame reflects
    const made = [...this.pending].filter(([id]) => id <= header.input);
    for (const [id] of made) this.pending.delete(id);
    // The image is visible with the browser's next animation frame, not when the canvas is written.
    requestAnimationFrame(() => {
      const now = performance.now();
      this.times.push(now);
      for (const [, time] of made) this.waits.add(now - time);
    });
    if (header.playing && header.ms) this.model.add(header.ms);
    this.caption(header);
    this.trim(header);
    this.chart();
  }

  paint(id, header, rgb) {
    const data = this.images[id].data;
    const before = this.before[id];
    let change = 0;
    for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
      if (before) change += Math.abs(rgb[i] - data[j]) + Math.abs(rgb[i + 1] - data[j + 1]) + Math.abs(rgb[i + 2] - data[j + 2]);
      data[j] = rgb[i]; data[j + 1] = rgb[i + 1]; data[j + 2] = rgb[i + 2];
    }
    if (before && before.number === header.number - 1) this.motion[id].set(header.number, change / rgb.length);
    this.before[id] = { number: header.number };
    this.contexts[id].putImageData(this.images[id], 0, 0);
  }

  caption(header) {
    $("kind").className = `kind ${header.kind === "noise" ? "" : header.kind}`;
    $("kind").textContent = header.number ? `${KINDS[header.kind]}, frame ${header.number}` : KINDS[header.kind];
    const other = this.hello.actions && !header.following && header.number > 0;
    const points = [header.score, header.true_score].map((value) => value === null || value === undefined ? "" : `score ${Number(value.toFixed(1))}`);
    $("score").textContent = points[0] + (header.over ? ", game over" : "");
    $("true-score").textContent = points[1];
    $("beside-word").textContent = header.alive ? "Real" : "Recording";
    $("beside-key").textContent = $("beside-word").textContent.toLowerCase();
    $("beside").title = header.alive ? "the simulated scene under the same actions" : "the recording after the start frame";
    $("recorded").textContent = header.alive ? (header.number && !header.following ? "under your actions" : "") : header.noise ? "none, started from noise" : !header.recorded ? "ends before this frame" : other ? "under its own actions" : "";
    $("beside").classList.toggle("over", !header.recorded);
    const scrub = $("scrub");
    scrub.min = header.first;
    scrub.max = Math.max(header.last, header.first + 1);
    if (document.activeElement !== scrub || header.playing || !scrub.matches(":active")) scrub.value = header.number;
    scrub.setAttribute("aria-valuetext", `frame ${header.number} of ${header.last}`);
  }

  trim(header) {
    for (const motion of Object.values(this.motion)) {
      for (const number of motion.keys()) if (number <= header.first || number > header.last) motion.delete(number);
    }
  }

  /** Mean change of each stored frame from the previous one. */
  chart() {
    const canvas = $("chart"), header = this.header;
    if (!header) return;
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.strokeStyle = colour("--line");
    context.beginPath();
    context.moveTo(0, height - .5);
    context.lineTo(width, height - .5);
    context.stroke();
    let top = 1;
    for (const motion of Object.values(this.motion)) for (const value of motion.values()) top = Math.max(top, value);
    const first = header.first, span = Math.max(header.last - first, 1);
    const x = (number) => 5 + (width - 10) * (number - first) / span;  // the handle is 10 px wide
    for (const [id, name] of [["truth", "--truth"], ["dream", "--accent"]]) {
      context.strokeStyle = colour(name);
      context.lineWidth = 1.5;
      context.beginPath();
      let last = null;
      for (const number of [...this.motion[id].keys()].sort((a, b) => a - b)) {
        const y = height - 2 - (height - 6) * this.motion[id].get(number) / top;
        if (last === number - 1) context.lineTo(x(number), y); else context.moveTo(x(number), y);
        last = number;
      }
      context.stroke();
    }
  }

  vitals() {
    const now = performance.now();
    this.times = this.times.filter((time) => now - time < 2000);
    const recent = this.times.filter((time) => now - time < 1000);
    const span = recent.length > 1 ? recent[recent.length - 1] - recent[0] : 0;
    const fps = span ? 1000 * (recent.length - 1) / span : 0;
    $("fps").textContent = this.header?.playing && fps ? fps.toFixed(fps < 10 ? 1 : 0) : "–";
    $("model-ms").textContent = this.model.text;
    $("latency").textContent = this.waits.text;
    document.body.dataset.fps = fps.toFixed(2);
    document.body.dataset.p50 = this.waits.values.length ? this.waits.at(.5).toFixed(2) : "";
    document.body.dataset.p95 = this.waits.values.length ? this.waits.at(.95).toFixed(2) : "";
  }
}
