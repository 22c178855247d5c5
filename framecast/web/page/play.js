// The page and the server talk over one socket: requests as JSON, frames as a JSON head and the pixels.

import { Code, controls } from "./sliders.js";
import { Pad, element } from "./pad.js";
import { Screen } from "./screen.js";

const $ = (id) => document.getElementById(id);
const query = location.search;
const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live${query}`);
socket.binaryType = "arraybuffer";

let screen, pad, code, hello;
let said = { playing: false, number: 0, first: 0, last: 0 };
let count = 0;
let resting = false;  // paused because nobody looks

/** Ask the server for something. time: when the hand moved, to measure until the picture follows. */
function ask(message, time) {
  if (socket.readyState !== WebSocket.OPEN) return 0;
  count += 1;
  document.body.dataset.requested = count;
  if (time !== undefined && screen) screen.expect(count, time);
  socket.send(JSON.stringify({ ...message, id: count }));
  return count;
}

socket.addEventListener("message", ({ data }) => {
  if (typeof data === "string") {
    const message = JSON.parse(data);
    ({ hello: welcome, complaint, film, bye })[message.type]?.(message);
    return;
  }
  const length = new DataView(data).getUint32(0, true);
  said = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  screen.draw(said, new Uint8Array(data, 4 + length));
  socket.send(JSON.stringify({ type: "drawn", frame: said.id }));
  refresh();
});

socket.addEventListener("close", () => {
  if ($("curtain").dataset.said) return;
  curtain(hello ? "The server is gone, or the connection was lost." : "The server lets nobody in from here. Open the whole address that it printed.");
});

function curtain(text) {
  $("curtain").dataset.said = "yes";
  $("curtain-says").textContent = text;
  $("curtain").hidden = $("reload").hidden = false;
  $("reload").focus();
}

const bye = ({ says }) => curtain(`${says[0].toUpperCase()}${says.slice(1)}.`);

function complaint({ says, playing }) {
  said.playing = playing;
  refresh();
  word(`${says[0].toUpperCase()}${says.slice(1)}.`);
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
  word(`A film of ${frames} ${frames === 1 ? "frame" : "frames"}, dream.mp4.`, link);
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
    pad = new Pad(hello.actions, (action, time) => ask({ type: "act", action }, said.playing ? time : undefined));
    $("follow-label").hidden = !hello.recorded;
    if (pad.bound.has("space")) $("play-key").textContent = "P";
  }
  if (!pad?.bound.has("space")) $("play-key").textContent = "space";
  keys();
  $("curtain").hidden = true;
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches && document.visibilityState === "visible") play(true);
}

/** Everything that depends on the frame shown, besides the picture. */
function refresh() {
  $("play").setAttribute("aria-pressed", said.playing);
  $("play-word").textContent = said.playing ? "Pause" : "Play";
  $("back").disabled = said.number <= said.first;
  if (document.activeElement !== $("starts")) $("starts").value = said.start;
  $("follow").checked = said.following;
  $("seed").textContent = hello.stochastic ? `seed ${said.seed}` : "";
  $("record").setAttribute("aria-pressed", said.filmed !== null && said.filmed !== undefined);
  $("record-word").textContent = said.filmed ? `Save ${said.filmed}` : "Record";
  code?.show(said);
  pad?.show(said);
}

const play = (on) => ask({ type: "play", on });
const reset = (more = {}, time) => ask({ type: "reset", ...more }, time);
const jump = (by, time) => reset({ start: (said.start + by + hello.starts.length) % hello.starts.length }, time);
const step = (time) => ask({ type: "step" }, time);
const back = (time) => { if (said.number > said.first) ask({ type: "go", frame: said.number - 1 }, time); };

function pace() {
  const value = $("speed").valueAsNumber, own = Math.round(hello.speed);
  const fps = value > 60 ? 240 : value === own ? hello.speed : value;
  $("speed-value").textContent = value > 60 ? "as fast as it can" : `${Number(fps.toFixed(2))} a second${value === own ? ", as recorded" : ""}`;
  return fps;
}

$("play").addEventListener("click", () => play(!said.playing));
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
  if (!on) word("The film is being written …");
});
$("speed").addEventListener("input", () => ask({ type: "speed", fps: pace() }));
$("speed").addEventListener("dblclick", () => { $("speed").value = Math.min(Math.round(hello.speed), 60); ask({ type: "speed", fps: pace() }); });
$("scrub").addEventListener("input", (event) => ask({ type: "go", frame: $("scrub").valueAsNumber }, event.timeStamp));
$("follow").addEventListener("change", () => ask({ type: "follow", on: $("follow").checked }));
$("reload").addEventListener("click", () => location.reload());

// ------------------------------------------------------------------------------------------------------------- keys

const KEYS = {
  p: ["play or pause", () => play(!said.playing)],
  ",": ["one frame back", (event) => back(event.timeStamp)],
  ".": ["one frame on", (event) => step(event.timeStamp)],
  r: ["back to the real frame", (event) => reset({}, event.timeStamp)],
  n: ["next real frame", (event) => jump(1, event.timeStamp)],
};

addEventListener("keydown", (event) => {
  if (!hello || event.ctrlKey || event.metaKey || event.altKey || event.repeat && !",.".includes(event.key)) return;
  if (event.target.closest?.("select")) return;
  if (event.key === " " && !pad?.bound.has("space") && !event.target.closest?.("button, input, summary")) {
    event.preventDefault();
    play(!said.playing);
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
  if (hello.sliders.length) rows.push(["Delete", "let the focused number of the code go"]);
  for (const [key, what] of rows) {
    element(element($("key-list"), "dt"), "kbd", { textContent: key });
    element($("key-list"), "dd", { textContent: what });
  }
}

// A page that nobody looks at rests; a film that is being made goes on.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden" && said.playing && said.filmed == null) {
    resting = true;
    play(false);
  } else if (document.visibilityState === "visible" && resting) {
    resting = false;
    play(true);
  }
});
