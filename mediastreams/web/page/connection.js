// The WebSocket of this tab. It is opened again until the page is closed.

const DRAINING = "The server is shutting down.";
const SILENCE = 90_000; // ms without a message: the server, which sends some at least each 30 s, is out of reach

// Calls on.message with each object, on.audio with each ArrayBuffer, and on.gone with a sentence when the
// connection ends or cannot be opened. Returns a function that sends an object, if there is a connection.
export function connect(on) {
  let socket;
  let wait = 500; // ms until it is opened again; twice as long each time
  const open = () => {
    let sentence, silence;
    const hear = () => {
      clearTimeout(silence);
      silence = setTimeout(() => {
        socket.onmessage = socket.onclose = null; // a Close would not be answered
        socket.close();
        sentence ??= "The server is gone.";
        end({});
      }, SILENCE);
    };
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/page/live`);
    socket.binaryType = "arraybuffer";
    hear();
    socket.onopen = () => {
      sentence = "The connection was lost.";
      wait = 500;
    };
    socket.onmessage = ({ data }) => {
      hear();
      if (typeof data !== "string") return on.audio(data);
      const message = JSON.parse(data);
      if (message.event === "draining") sentence = DRAINING;
      on.message(message);
    };
    const end = (socket.onclose = async ({ code }) => {
      clearTimeout(silence);
      let why = code === 1013 ? "This tab was too slow." : (sentence ?? (await reason()));
      on.gone(why);
      do {
        await new Promise((done) => setTimeout(done, wait));
        wait = Math.min(2 * wait, 5000);
      } while (why === DRAINING && (why = await reason()) === DRAINING); // it would log a refusal each time
      open();
    });
  };
  open();
  return (message) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message));
}

// Returns what the server answers as JSON. Throws an Error that says why it does not.
export async function getJson(path) {
  const answer = await fetch(path);
  if (answer.status === 403) location.reload(); // to the form for the token: the login has run out
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// A refused WebSocket does not tell why: an ordinary request does.
async function reason() {
  try {
    if ((await fetch("/healthz")).status === 503) return DRAINING; // until its calls have ended
    const { status, ok } = await fetch("/page/page.css", { method: "HEAD" });
    if (status === 403) location.reload(); // to the form for the token
    if (ok) return "The server has as many viewers as it allows (PAGE_VIEWERS).";
  } catch {} // nobody answers
  return "The server is gone.";
}
