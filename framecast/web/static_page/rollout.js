// A roll-out without a server: the model's graphs in onnxruntime-web on one thread, answering the requests of the page.
// It follows web/session.py, and web/server.py in when frames are sent.

import * as ort from "./ort.wasm.min.mjs";

const HISTORY = 600, HISTORY_BYTES = 48 << 20;  // largest length of the history, in moments and in bytes
const IN_FLIGHT = 2;  // frames sent and not yet drawn
const APART = 1000 / 60;  // shortest time between two frames, ms, also after a key press
const MAX_FPS = 240;

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

class Complaint extends Error {}

async function load(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is missing beside the page`);
  return answer;
}

async function graph(name) {
  return ort.InferenceSession.create(new Uint8Array(await (await load(name)).arrayBuffer()));
}

class Rollout {
  constructor(world, init, step) {
    Object.assign(this, { world, initGraph: init, stepGraph: step, spec: world.actions, settings: {}, held: null, tapped: null });
    this.following = Boolean(this.spec);
    this.start = { index: -1 };
    this.seed = -1;
  }

  static async open() {
    const world = await (await load("world.json")).json();
    return new Rollout(world, await graph("rollout_init.onnx"), await graph("rollout_step.onnx"));
  }

  /** The frames of a start, RGB each, from an image that holds them row by row. */
  async frames({ image, count, columns }) {
    const { width, height } = this.world.hello;
    const blob = await (await load(image)).blob();
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return Array.from({ length: count }, (_, i) => {
      const { data } = context.getImageData(width * (i % columns), height * Math.floor(i / columns), width, height);
      return data.filter((_, j) => j % 4 < 3);
    });
  }

  /** Back to a start; again: with the same random seed. */
  async reset(index = this.start.index, again = false) {
    const { starts, context: shape } = this.world;
    if (!Number.isInteger(index) || !(index in starts)) throw new Complaint(`start must be in 0…${starts.length - 1}`);
    if (!again) this.seed += 1;
    if (index !== this.start.index) this.start = { ...starts[index], index, pictures: await this.frames(starts[index]) };
    const { pictures, context, actions } = this.start;
    const [, frames, channels, height, width] = shape;
    const values = new Float32Array(frames * channels * height * width);
    pictures.slice(context - frames, context).forEach((picture, t) => {
      for (let c = 0; c < channels; c++) {
        for (let i = 0; i < height * width; i++) values[((t * channels) + c) * height * width + i] = picture[3 * i + c] / 255;
      }
    });
    const given = { context: new ort.Tensor("float32", values, shape), seed: seeded(this.seed) };
    if (this.spec) {
      const rows = actions.slice(context - frames, context - 1).map((action) => this.vector(action));
      given.actions = new ort.Tensor("float32", Float32Array.from(rows.flatMap((row) => [...row])), [1, frames - 1, this.spec.size]);
    }
    const state = await run(this.initGraph, given);
    this.tapped = null;
    this.moments = [];
    this.bytes = 0;
    this.keep({ number: 0, picture: pictures[context - 1], state, kind: "real", action: null, ms: 0, score: null, over: false });
  }

  get now() { return this.moments[this.at]; }

  /** One more frame from the moment shown; later moments are discarded. */
  async step() {
    const began = performance.now(), { now } = this;
    for (const moment of this.moments.splice(this.at + 1)) this.bytes -= moment.bytes;
    const given = { ...now.state }, action = this.action();
    for (const [name, value] of Object.entries(this.settings)) given[`state_${name}`] = new ort.Tensor("float32", [value], [1]);
    if (this.spec) given.action = new ort.Tensor("float32", this.vector(action), [1, this.spec.size]);
    const { frame, ...next } = await run(this.stepGraph, given);
    const state = Object.fromEntries(Object.entries(next).map(([name, value]) => [name.replace("next_", "state_"), value]));
    const ended = state.state_terminated?.data[0] > .5;
    const score = state.state_reward ? (now.score ?? 0) + state.state_reward.data[0] : null;
    this.keep({ number: now.number + 1, picture: rgb(frame), state, kind: "dream", action, ms: performance.now() - began, score, over: ended });
  }

  keep(moment) {
    moment.bytes = moment.picture.length + Object.values(moment.state).reduce((sum, { data }) => sum + data.byteLength, 0);
    this.moments.push(moment);
    this.bytes += moment.bytes;
    while (this.moments.length > 2 && (this.moments.length > HISTORY || this.bytes > HISTORY_BYTES)) this.bytes -= this.moments.shift().bytes;
    this.at = this.moments.length - 1;
  }

  /** The action at the frame shown: the recorded one, else the one pressed, else the idle one. */
  action() {
    if (!this.spec) return null;
    const recorded = this.start.actions[this.start.context - 1 + this.now.number];
    if (this.following && recorded !== undefined) return recorded;
    const chosen = this.tapped ?? this.held ?? this.world.idle;  // a key released before the frame counts for one frame
    this.tapped = null;
    return chosen;
  }

  /** Input of the model for an action: one-hot, or standardised and clipped to its range. */
  vector(action) {
    const { kind, size, mean, std } = this.spec;
    if (kind === "discrete") {
      if (!Number.isInteger(action) || action < 0 || action >= size) throw new Complaint(`an action is a number in 0…${size - 1}`);
      return Float32Array.from({ length: size }, (_, i) => Number(i === action));
    }
    if (!Array.isArray(action) || action.length !== size || !action.every(Number.isFinite)) throw new Complaint(`an action is a list of ${size} finite numbers`);
    return Float32Array.from(action, (value, i) => {
      const [low, high] = this.world.bounds[i], clipped = Math.min(Math.max(value, low), high);
      return mean ? (clipped - mean[i]) / (std[i] > 0 ? std[i] : 1) : clipped;
    });
  }

  press(action) {
    if (!this.spec) throw new Complaint("this model takes no actions");
    if (action !== null) {
      this.vector(action);
      this.tapped = action;
      this.following = false;
    }
    this.held = action;
  }

  turn(name, value) {
    const control = this.world.hello.controls.find((one) => one.name === name);
    if (!control) throw new Complaint("this model has no such control");
    if (!(value >= control.low && value <= control.high)) throw new Complaint(`${control.label} lies in ${control.low}…${control.high}`);
    this.settings[name] = value;
  }

  /** Header and pixels of the moment shown, as in Session.look. */
  look() {
    const { now, moments, start } = this;
    const recording = start.pictures[start.context - 1 + now.number];
    const shown = recording ? [now.picture, recording] : [now.picture];
    const pixels = new Uint8Array(shown.reduce((sum, { length }) => sum + length, 0));
    shown.forEach((picture, i) => pixels.set(picture, i * now.picture.length));
    const action = Number.isInteger(now.action) ? now.action : null;
    const { number, kind, score, over, ms } = now;
    return [{
      type: "frame", number, first: moments[0].number, last: moments.at(-1).number, kind, recorded: Boolean(recording), noise: false,
      alive: false, score, true_score: null, over, following: this.following, action, code: [], pins: [], start: start.index,
      seed: this.seed, ms: Math.round(100 * ms) / 100, filmed: null,
    }, pixels];
  }
}

/** Outputs of a graph by name; inputs that it does not take are left out. */
async function run(session, given) {
  return session.run(Object.fromEntries(session.inputNames.map((name) => [name, given[name]])));
}

function seeded(seed) {
  return new ort.Tensor("int64", BigInt64Array.of((BigInt(seed + 1) * 0x1E3779B97F4A7C15n) & ((1n << 62n) - 1n)), [1]);
}

/** RGB bytes of a frame (1, c, h, w) of floats in 0…1. */
function rgb({ data, dims: [, channels, height, width] }) {
  const pixels = new Uint8ClampedArray(3 * height * width);
  for (let c = 0; c < 3; c++) {
    const plane = height * width * (channels === 3 ? c : 0);
    for (let i = 0; i < height * width; i++) pixels[3 * i + c] = 255 * data[plane + i];
  }
  return pixels;
}

// ---------------------------------------------------------------------------------------------------- requests, frames

const inbox = [], soon = new MessageChannel();
let wake = () => {};
addEventListener("message", ({ data }) => { inbox.push(data); wake(); });

class Player {
  constructor(rollout) {
    const fps = Math.min(rollout.world.hello.fps, MAX_FPS);
    Object.assign(this, { rollout, fps, playing: false, due: 0, last: 0, eager: false, sent: 0, drawn: 0, input: 0 });
  }

  async serve() {
    postMessage({ ...this.rollout.world.hello, speed: this.fps });
    this.show();
    while (true) {
      await this.wait();
      let changed = false;
      while (inbox.length) changed = await this.take(inbox.shift()) || changed;
      const now = performance.now();
      if (this.ready && now >= this.next) {
        this.due = Math.max(this.due + 1000 / this.fps, now);  // late frames are not caught up
        this.last = now;
        this.eager = false;
        if (await this.attempt(() => this.rollout.step())) this.show();
      } else if (changed) this.show();
    }
  }

  get ready() { return this.playing && this.sent - this.drawn < IN_FLIGHT; }

  /** Time of the next frame, ms: its scheduled time, or after a key press up to one period earlier. */
  get next() {
    return this.eager ? Math.min(this.due, Math.max(this.last + APART, this.due - 1000 / this.fps)) : this.due;
  }

  /** Until a request arrives or the next frame is due; a timer of the browser would wait 4 ms at least. */
  wait() {
    return new Promise((resolve) => {
      wake = resolve;
      const left = this.next - performance.now();
      if (inbox.length || (this.ready && left < 4)) {
        soon.port1.onmessage = resolve;
        soon.port2.postMessage(null);
      } else if (this.ready) setTimeout(resolve, left);
    });
  }

  show() {
    const [header, pixels] = this.rollout.look();
    this.sent += 1;
    postMessage({ header: { ...header, id: this.sent, input: this.input, playing: this.playing }, pixels }, [pixels.buffer]);
  }

  /** Whether some work succeeded; if not, playing pauses and the page shows the error. */
  async attempt(work) {
    try {
      await work();
      return true;
    } catch (error) {
      this.playing = false;
      postMessage({ type: "complaint", message: error.message, playing: false });
      return false;
    }
  }

  /** Answer a request; whether the frame or its header may have changed. */
  async take(message) {
    let changed = false;
    try {
      changed = await this.answer(message);
    } catch (error) {
      if (!(error instanceof Complaint)) throw error;
      postMessage({ type: "complaint", message: error.message, playing: this.playing });
    }
    if (Number.isInteger(message.id)) this.input = message.id;
    return changed;
  }

  async answer({ type, ...more }) {
    const { rollout } = this;
    switch (type) {
      case "drawn": this.drawn = Math.max(this.drawn, more.frame); return false;
      case "act": rollout.press(more.action); this.eager = this.playing; return !this.playing;
      case "play": this.playing = more.on === true; this.due = performance.now(); return true;
      case "speed": this.fps = Math.min(Math.max(more.fps, .1), MAX_FPS); return false;
      case "turn": rollout.turn(more.name, more.value); return true;
      case "follow": rollout.following = Boolean(rollout.spec) && more.on === true; return true;
      case "step": this.playing = false; return this.attempt(() => rollout.step());
      case "go":
        this.playing = false;
        rollout.at = Math.min(Math.max(more.frame - rollout.moments[0].number, 0), rollout.moments.length - 1);
        return true;
      case "reset":
        this.due = performance.now() + 1000 / this.fps;
        return this.attempt(() => rollout.reset(more.start, more.again));
      default: throw new Complaint(`unknown message type ${type}`.slice(0, 120));
    }
  }
}

async function serve() {
  try {
    const rollout = await Rollout.open();
    await rollout.reset(0);
    await new Player(rollout).serve();
  } catch (error) {
    postMessage({ type: "bye", message: error.message || "the model has stopped" });
  }
}

serve();
