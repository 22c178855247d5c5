// Sliders of the model's controls and of its latents.

import { element } from "./pad.js";

const $ = (id) => document.getElementById(id);

/** A slider for each control of the model, such as temperatures. */
export function controls(all, send) {
  for (const control of all) {
    const box = element($("controls"), "div", { className: "control" });
    const head = element(box, "h2");
    element(head, "label", { textContent: control.label, htmlFor: `control-${control.name}` });
    const output = element(head, "output");
    const input = element(box, "input", { type: "range", id: `control-${control.name}`, min: control.low, max: control.high, step: (control.high - control.low) / 200, value: control.value });
    if (control.description) {
      element(box, "p", { className: "soft", id: `help-${control.name}`, textContent: control.description });
      input.setAttribute("aria-describedby", `help-${control.name}`);
    }
    const show = () => { output.textContent = input.valueAsNumber.toFixed(2); };
    show();
    input.addEventListener("input", (event) => { show(); send(control.name, input.valueAsNumber, event.timeStamp); });
    input.addEventListener("dblclick", (event) => { input.value = control.value; show(); send(control.name, control.value, event.timeStamp); });
  }
}

/** One vertical bar for each latent dimension. Moving one pins it. */
export class Code {
  constructor(sliders, steerable, pin, free) {
    this.sliders = sliders;
    this.pin = pin;
    this.free = free;
    this.bars = new Map();
    this.waiting = new Map();
    $("code").hidden = false;
    $("code-help").textContent = steerable
      ? "Move a bar to hold that latent dimension during the roll-out. Tinted: mean ± std over real frames."
      : "Move a bar to decode the edited latent; playing continues the roll-out. Tinted: mean ± std over real frames.";
    for (const slider of sliders) this.build(slider);
    $("free").addEventListener("click", (event) => this.free(null, event.timeStamp));
  }

  build(slider) {
    const share = (value) => `${100 * Math.min(Math.max((value - slider.low) / (slider.high - slider.low), 0), 1)}%`;
    const label = element($("bars"), "label", { className: "bar" });
    const input = element(label, "input", { type: "range", min: slider.low, max: slider.high, step: .001, value: slider.mean, title: `latent dimension ${slider.index}; double-click to release` });
    input.setAttribute("aria-label", `latent dimension ${slider.index}`);
    input.style.setProperty("--low", share(slider.mean - slider.std));
    input.style.setProperty("--high", share(slider.mean + slider.std));
    element(label, "span", { textContent: slider.index });
    this.bars.set(slider.index, { label, input });
    input.addEventListener("input", (event) => this.move(slider.index, input.valueAsNumber, event.timeStamp));
    input.addEventListener("dblclick", (event) => this.free([slider.index], event.timeStamp));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Delete" || event.key === "Backspace") this.free([slider.index], event.timeStamp);
    });
    for (const name of ["focus", "pointerenter"]) input.addEventListener(name, () => this.read(slider.index));
  }

  /** Moves are sent one at a time: the next when the frame of the last has arrived. */
  move(index, value, time) {
    this.waiting.set(index, value);
    this.bars.get(index).label.classList.add("pinned");
    this.read(index);
    this.flush(time);
  }

  flush(time = performance.now()) {
    if (this.busy || !this.waiting.size) return;
    const values = Object.fromEntries(this.waiting);
    this.waiting.clear();
    this.busy = this.pin(values, time);
  }

  read(index) {
    this.reading = index;
    $("code-value").textContent = `dimension ${index}: ${this.bars.get(index).input.valueAsNumber.toFixed(2)}`;
  }

  /** Show the latent of a frame. */
  show(header) {
    if (this.busy && header.input >= this.busy) this.busy = null;
    const pins = new Set(header.pins);
    this.sliders.forEach((slider, place) => {
      const { label, input } = this.bars.get(slider.index);
      label.classList.toggle("pinned", pins.has(slider.index) || this.waiting.has(slider.index));
      label.classList.toggle("idle", !header.code.length);
      if (header.code.length && !this.waiting.has(slider.index) && !input.matches(":active")) input.value = header.code[place];
    });
    $("free").hidden = !pins.size;
    $("free").textContent = pins.size > 1 ? `release all ${pins.size}` : "release";
    if (this.reading !== undefined) this.read(this.reading);
    this.flush();
  }
}
