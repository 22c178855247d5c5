// The page: requests go through a connection, to the server or to a worker of this browser; frames come back.

import { connect } from "./connection.js";
import { Code, controls } from "./sliders.js";
import { Pad, element } from "./pad.js";
import { Screen } from "./screen.js";

const $ = (id) => document.getElementById(id);
const query = location.search;

let screen, pad, code, hello;
let header = { playing: false, number: 0, first: 0, last: 0 };
let count = 0;
let resting = false;  // paused while the page is hidden

/** Send a request; returns its id. time: of the input event, for the latency until the frame that answers it. */
function ask(message, time) {
  if (!connection.open) return 0;
  count += 1;
  document.body.dataset.requested = count;
  if (time !== undefined && screen) screen.expect(count, time);
  connection.send({ ...message, id: count });
  return count;
}

const connection = connect({
  message: (message) => ({ hello: welcome, complaint, film, bye })[message.type]?.(message),
  frame: (head, pixels) => {
    header = head;
    screen.draw(header, pixels);
    connection.send({ type: "drawn", frame: header.id });
    refresh();
  },
  closed: (text) => {
    if (!$("curtain").dataset.closed) curtain(hello ? text.lost : text.refused);
  },
});

function curtain(text) {
  $("curtain").dataset.closed = "yes";
  $("curtain-message").textContent = text;
  $("curtain").hidden = $("reload").hidden = false;
  $("reload").focus();
}

const bye = ({ message }) => curtain(`${message[0].toUpperCase()}${message.slice(1)}.`);

function complaint({ message, playing }) {
  header.playing = playing;
  refresh();
  word(`${message[0].toUpperCase()}${message.slice(1)}.`);
}

let fading;
function word(text, link) {
  $("word").textContent = text;
  if (link) $("word").append(" ", link);
  $("word").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => $("word").classList.remove("shown"), link ? 12000 : 5000);
}

function film({ name, frames }) {
  const link = Object.assign(document.createElement("a"), { href: `/film/${name}${query}`, download: "dream.mp4", textContent: "Save it again" });
  link.click();
  word(`A video of ${frames} ${frames === 1 ? "frame" : "frames"}, dream.mp4.`, link);
}

// ------------------------------------------------------------------------------------------------------ the page

function welcome(message) {
  hello = message;
  document.title = `${hello.name} · framecast play`;
  $("run").textContent = hello.name;
  $("model").textContent = hello.model;
  screen = new Screen(hello);
  hello.starts.forEach((name, index) => element($("starts"), "option", { value: index, textContent: name }));
  $("again").hidden = !hello.stochastic;
  $("record").hidden = $("noise").hidden = Boolean(hello.local);
  if (hello.real) {  // the game itself: one image, and every reset is a new game
    $("dream-word").textContent = "Game";
    $("own-key").textContent = "game";
    $("beside").hidden = $("start").hidden = $("other-key").hidden = true;
  }
  $("speed").value = Math.min(Math.round(hello.speed), 60);
  pace();
  controls(hello.controls, (name, value, time) => ask({ type: "turn", name, value }, time));
  if (hello.sliders.length) {
    code = new Code(
      hello.sliders,
      hello.steerable,
      (values, time) => ask({ type: "pin", values }, time),
      (indices, time) => ask({ type: "free", indices }, time),
    );
  }
  if (hello.actions) {
    pad = new Pad(hello.actions, (action, time) => ask({ type: "act", action }, header.playing ? time : undefined));
    $("follow-label").hidden = !hello.recorded;
    if (pad.bound.has("space")) $("play-key").textContent = "P";
  }
  if (!pad?.bound.has("space")) $("play-key").textContent = "space";
  keys();
  $("curtain").hidden = true;
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches && document.visibilityState === "visible") play(true);
}

/** Update everything that depends on the frame shown, except the canvas. */
function refresh() {
  $("play").setAttribute("aria-pressed", header.playing);
  $("play-word").textContent = header.playing ? "Pause" : "Play";
  $("back").disabled = header.number <= header.first;
  if (document.activeElement !== $("starts")) $("starts").value = header.start;
  $("follow").checked = header.following;
  $("seed").textContent = hello.stochastic ? `seed ${header.seed}` : "";
  $("record").setAttribute("aria-pressed", header.filmed !== null && header.filmed !== undefined);
  $("record-word").textContent = header.filmed ? `Save ${header.filmed}` : "Record";
  code?.show(header);
  pad?.show(header);
}

const play = (on) => ask({ type: "play", on });
const reset = (more = {}, time) => ask({ type: "reset", ...more }, time);
const jump = (by, time) => reset({ start: (header.start + by + hello.starts.length) % hello.starts.length }, time);
const step = (time) => ask({ type: "step" }, time);
const back = (time) => { if (header.number > header.first) ask({ type: "go", frame: header.number - 1 }, time); };

function pace() {
  const value = $("speed").valueAsNumber, own = Math.round(hello.speed);
  const fps = value > 60 ? 240 : value === own ? hello.speed : value;
  $("speed-value").textContent = value > 60 ? "as fast as possible" : `${Number(fps.toFixed(2))} frames per second${value === own ? ", as recorded" : ""}`;
  return fps;
}

$("play").addEventListener("click", () => play(!header.playing));
$("step").addEventListener("click", (event) => step(event.timeStamp));
$("back").addEventListener("click", (event) => back(event.timeStamp));
$("reset").addEventListener("click", (event) => reset({}, event.timeStamp));
$("again").addEventListener("click", (event) => reset({ again: true }, event.timeStamp));
$("noise").addEventListener("click", (event) => reset({ from_noise: true }, event.timeStamp));
$("previous").addEventListener("click", (event) => jump(-1, event.timeStamp));
$("next").addEventListener("click", (event) => jump(1, event.timeStamp));
$("starts").addEventListener("change", (event) => { reset({ start: Number($("starts").value) }, event.timeStamp); $("starts").blur(); });
$("record").addEventListener("click", () => {
  const on = $("record").getAttribute("aria-pressed") !== "true";
  ask({ type: "record", on });
  if (!on) word("The video is being written …");
});
$("speed").addEventListener("input", () => ask({ type: "speed", fps: pace() }));
$("speed").addEventListener("dblclick", () => { $("speed").value = Math.min(Math.round(hello.speed), 60); ask({ type: "speed", fps: pace() }); });
$("scrub").addEventListener("input", (event) => ask({ type: "go", frame: $("scrub").valueAsNumber }, event.timeStamp));
$("follow").addEventListener("change", () => ask({ type: "follow", on: $("follow").checked }));
$("reload").addEventListener("click", () => location.reload());

// ------------------------------------------------------------------------------------------------------------- keys

const KEYS = {
  p: ["play or pause", () => play(!header.playing)],
  ",": ["one frame back", (event) => back(event.timeStamp)],
  ".": ["one frame forward", (event) => step(event.timeStamp)],
  r: ["back to the real frame", (event) => reset({}, event.timeStamp)],
  n: ["next real frame", (event) => jump(1, event.timeStamp)],
};

addEventListener("keydown", (event) => {
  if (!hello || event.ctrlKey || event.metaKey || event.altKey || event.repeat && !",.".includes(event.key)) return;
  if (event.target.closest?.("select")) return;
  if (event.key === " " && !pad?.bound.has("space") && !event.target.closest?.("button, input, summary")) {
    event.preventDefault();
    play(!header.playing);
  }
  KEYS[event.key.toLowerCase()]?.[1](event);
});

function keys() {
  const rows = [];
  if (pad) {
    const arrows = [...pad.bound].filter((key) => key !== "space");
    if (arrows.length) rows.push(["arrows", arrows.map((key) => pad.label(key)).join(", ")]);
    if (pad.bound.has("space")) rows.push(["space", pad.label("space")]);
    if (pad.buttons.has("digit 1")) rows.push(["1 …", "the other actions"]);
  }
  if (!pad?.bound.has("space")) rows.push(["space", "play or pause"]);
  for (const [key, [what]] of Object.entries(KEYS)) rows.push([key.toUpperCase(), what]);
  if (hello.sliders.length) rows.push(["Delete", "release the focused latent dimension"]);
  for (const [key, what] of rows) {
    element(element($("key-list"), "dt"), "kbd", { textContent: key });
    element($("key-list"), "dd", { textContent: what });
  }
}

// A hidden page pauses, unless it is recording.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden" && header.playing && header.filmed == null) {
    resting = true;
    play(false);
  } else if (document.visibilityState === "visible" && resting) {
    resting = false;
    play(true);
  }
});
