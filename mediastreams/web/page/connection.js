// The WebSocket of this tab. It is opened again until the page is closed.

const FIRST = 500; // ms to wait before it is opened again; twice as long each time
const LONGEST = 5000;

// Calls on.message with each object, on.audio with each ArrayBuffer, and on.gone with a sentence when the
// connection ends or cannot be opened. Returns a function that sends an object, if there is a connection.
export function connect(on) {
  let socket;
  let wait = FIRST;
  const open = () => {
    let sentence = "";
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/page/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => (sentence = "The connection was lost.");
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return on.audio(data);
      const message = JSON.parse(data);
      if (message.event === "hello") wait = FIRST;
      if (message.event === "draining") sentence = "The server is shutting down.";
      on.message(message);
    };
    socket.onclose = async ({ code }) => {
      if (code === 1013) sentence = "This tab was too slow.";
      on.gone(sentence || (await reason()));
      setTimeout(open, wait);
      wait = Math.min(2 * wait, LONGEST);
    };
  };
  open();
  return (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
}

// A refused WebSocket does not tell why: an ordinary request does.
async function reason() {
  try {
    const { status, ok } = await fetch("/page/page.css", { method: "HEAD", cache: "no-store" });
    if (status === 403) location.reload(); // to the form for the token
    if (ok) return "The server has as many viewers as it allows (PAGE_VIEWERS).";
  } catch {} // nobody answers
  return "The server is gone.";
}
