// Mapping of arrows, space, digits and buttons to actions of the model.

const ARROWS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right", " ": "space", w: "up", s: "down", a: "left", d: "right" };
const SIGNS = { up: "↑", down: "↓", left: "←", right: "→" };

export class Pad {
  /** actions: as the server describes them.  send: called with an action, or null when nothing is done. */
  constructor(actions, send) {
    this.actions = actions;
    this.send = send;
    this.held = [];  // keys that are down, the newest last
    this.chip = null;
    this.values = {};  // continuous: slider values by axis
    this.last = null;
    this.buttons = new Map();
    this.build(document.getElementById("pad"));
    addEventListener("keydown", (event) => this.key(event, true));
    addEventListener("keyup", (event) => this.key(event, false));
    addEventListener("blur", () => this.release());
    this.gamepad = new Set();  // keys that a gamepad holds down
    addEventListener("gamepadconnected", () => this.poll());
  }

  /** Read the gamepads every 8 ms: stick and cross are the arrows, the lower four buttons space. */
  poll() {
    const pads = [...navigator.getGamepads()].filter((one) => one?.connected);
    const down = new Set();
    for (const { axes, buttons } of pads) {
      const pressed = (i) => buttons[i]?.pressed;
      if (axes[1] < -.5 || pressed(12)) down.add("up");
      if (axes[1] > .5 || pressed(13)) down.add("down");
      if (axes[0] < -.5 || pressed(14)) down.add("left");
      if (axes[0] > .5 || pressed(15)) down.add("right");
      if ([0, 1, 2, 3].some(pressed)) down.add("space");
    }
    for (const key of ["up", "down", "left", "right", "space"]) {
      if (down.has(key) !== this.gamepad.has(key) && this.bound.has(key)) this.hold(key, down.has(key), performance.now());
    }
    this.gamepad = down;
    clearTimeout(this.polling);
    if (pads.length) this.polling = setTimeout(() => this.poll(), 8);
  }

  /** Keys bound to an action. */
  get bound() {
    const all = this.actions.kind === "discrete" ? this.actions.choices : this.actions.axes;
    return new Set(all.flatMap((one) => one.keys ?? []));
  }

  build(pad) {
    const bound = this.bound;
    const arrows = ["up", "left", "down", "right"].filter((key) => bound.has(key));
    if (arrows.length) {
      const cross = element(pad, "div", { className: "cross" });
      for (const key of arrows) this.holdable(element(cross, "button", { textContent: SIGNS[key], ariaLabel: this.label(key) }), key);
    }
    if (bound.has("space")) this.holdable(element(pad, "button", { className: "space", textContent: this.label("space") }), "space");
    if (this.actions.kind === "discrete") this.chips(pad); else this.sliders(pad);
    this.doing = element(pad, "span", { id: "doing", className: "soft" });
    pad.hidden = false;
  }

  /** Buttons and digits for actions without a key. */
  chips(pad) {
    const nameless = this.actions.choices.map((choice, index) => ({ ...choice, index })).filter((choice) => choice.keys === null);
    if (!nameless.length) return;
    const chips = element(pad, "div", { className: "chips" });
    nameless.forEach((choice, place) => {
      const button = element(chips, "button", { textContent: choice.label });
      if (place < 9) element(button, "kbd", { textContent: place + 1 }).before(" ");
      this.holdable(button, `chip ${choice.index}`);
      if (place < 9) this.buttons.set(`digit ${place + 1}`, `chip ${choice.index}`);
    });
  }

  sliders(pad) {
    this.actions.axes.forEach((axis, index) => {
      if (axis.keys) return;
      const label = element(pad, "label", { className: "axis", textContent: axis.label });
      const input = element(label, "input", { type: "range", min: axis.low, max: axis.high, step: (axis.high - axis.low) / 100, value: axis.idle });
      input.addEventListener("input", (event) => { this.values[index] = input.valueAsNumber; this.update(event.timeStamp); });
      input.addEventListener("dblclick", (event) => { input.value = axis.idle; delete this.values[index]; this.update(event.timeStamp); });
    });
  }

  /** Label of a key. */
  label(key) {
    if (this.actions.kind === "discrete") {
      const own = this.actions.choices.find((choice) => choice.keys?.length === 1 && choice.keys[0] === key);
      return own ? own.label.toLowerCase() : key;
    }
    const axis = this.actions.axes.find((one) => one.keys?.includes(key));
    return axis ? `${axis.label} ${axis.keys[0] === key ? "−" : "+"}` : key;
  }

  holdable(button, key) {
    button.dataset.key = key;
    this.buttons.set(key, button);
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      this.hold(key, true, event.timeStamp);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(name, (event) => this.hold(key, false, event.timeStamp));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    // Enter holds the focused button.
    button.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.repeat) this.hold(key, true, event.timeStamp); });
    button.addEventListener("keyup", (event) => { if (event.key === "Enter") this.hold(key, false, event.timeStamp); });
    button.addEventListener("blur", (event) => this.hold(key, false, event.timeStamp));
  }

  key(event, down) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (down && event.target.closest?.("input[type=range], select")) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const key = ARROWS[name] ?? this.buttons.get(`digit ${name}`);
    const known = key?.startsWith?.("chip") || this.bound.has(key);
    if (!known || (down && key === "space" && event.target.closest?.("button:not(#pad button), summary, input"))) return;
    if (down) event.preventDefault();
    if (!event.repeat) this.hold(key, down, event.timeStamp);
  }

  hold(key, down, time) {
    const was = this.held.includes(key);
    if (was === down) return;
    this.held = down ? [...this.held, key] : this.held.filter((other) => other !== key);
    this.buttons.get(key)?.classList?.toggle("held", down);
    this.update(time);
  }

  release() {
    for (const key of [...this.held]) this.hold(key, false, performance.now());
  }

  update(time) {
    const action = this.actions.kind === "discrete" ? this.choice() : this.vector();
    const text = JSON.stringify(action);
    if (text === this.last || action === undefined) return;
    this.last = text;
    this.send(action, time);
  }

  /** The action with the most of its keys down; of equals the one with the newest key. Undefined keeps the last. */
  choice() {
    const newest = this.held[this.held.length - 1];
    if (newest?.startsWith("chip")) return Number(newest.slice(5));
    let best = null;
    this.actions.choices.forEach((choice, index) => {
      if (!choice.keys?.length || !choice.keys.every((key) => this.held.includes(key))) return;
      const score = choice.keys.length + (choice.keys.includes(newest) ? .5 : 0);
      if (!best || score > best.score) best = { index, score };
    });
    if (best) return best.index;
    return this.actions.idle === null && !this.held.length ? undefined : null;
  }

  vector() {
    let idle = true;
    const values = this.actions.axes.map((axis, index) => {
      const newest = [...this.held].reverse().find((key) => axis.keys?.includes(key));
      if (newest === undefined && !(index in this.values)) return axis.idle;
      idle = false;
      return newest === undefined ? this.values[index] : newest === axis.keys[0] ? axis.low : axis.high;
    });
    return idle ? null : values;
  }

  /** Show the action that led to the frame. */
  show(header) {
    const choice = this.actions.kind === "discrete" && Number.isInteger(header.action) ? this.actions.choices[header.action].label.toLowerCase() : "";
    this.doing.textContent = header.following && header.number ? `recorded: ${choice || "actions"}` : choice;
  }
}

export function element(parent, tag, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  parent.append(made);
  return made;
}
