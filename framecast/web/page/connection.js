// The connection of the page to the server: requests as JSON, frames as a JSON head and the pixels.

const CLOSED = {
  lost: "The server is gone, or the connection was lost.",
  refused: "The server refused the connection. Open the complete address that it printed.",
};

/** message, frame, closed: called with what arrives; `closed` with texts for a lost and a refused connection. */
export function connect({ message, frame, closed }) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live${location.search}`);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") {
      message(JSON.parse(data));
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    frame(JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length))), new Uint8Array(data, 4 + length));
  });
  socket.addEventListener("close", () => closed(CLOSED));
  return {
    get open() { return socket.readyState === WebSocket.OPEN; },
    send: (request) => socket.send(JSON.stringify(request)),
  };
}
