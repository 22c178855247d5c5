// The connection of a page without a server: a worker that runs the model's graphs in this browser.

const CLOSED = { lost: "The model has stopped.", refused: "The model could not be loaded." };

/** message, frame, closed: as in page/connection.js. */
export function connect({ message, frame, closed }) {
  document.getElementById("curtain-message").textContent = "Loading the model …";
  const worker = new Worker(new URL("rollout.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data }) => (data.pixels ? frame(data.header, data.pixels) : message(data)));
  worker.addEventListener("error", () => closed(CLOSED));
  return { open: true, send: (request) => worker.postMessage(request) };
}
