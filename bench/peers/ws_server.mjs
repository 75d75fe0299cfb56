// Node's ws. What it does with each message is what account.py does.

import { writeFileSync } from "node:fs";
import { WebSocketServer } from "ws";

const LATENESS = process.env.BENCH_LATENESS; // the file that bench/lateness.py describes
const handled = {};

function log(text) {
  console.log(`[${new Date().toISOString()}] INFO: ${text}`);
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, path: "/media", perMessageDeflate: false });

server.on("listening", () => console.log(`Server listening on: http://localhost:${server.address().port}`));

server.on("connection", (ws) => {
  let received = 0;
  let lost = 0;
  let next = 1;
  let times = null;
  const tracks = new Map();
  log("Connection accepted");

  function count(message) {
    const number = Number(message.sequenceNumber);
    if (number !== next) lost += number - next;
    next = number + 1;
    return number;
  }

  ws.on("message", (data) => {
    received += 1;
    const message = JSON.parse(data);
    if (message.event === "media") {
      const payload = Buffer.from(message.media.payload, "base64");
      const number = count(message);
      let track = tracks.get(message.media.track);
      if (track === undefined) {
        track = { chunks: 0, bytes: 0 };
        tracks.set(message.media.track, track);
        log(`Media message: ${payload.length} bytes`);
      }
      track.chunks += 1;
      track.bytes += payload.length;
      if (times) times[number] = Number(process.hrtime.bigint());
      return;
    }
    if (message.event === "start" && LATENESS) {
      times = new Float64Array(Number(message.start.customParameters.messages) + 1);
      handled[message.start.callSid] = times;
    }
    if (message.event !== "connected") count(message);
    log(`${message.event} Message received: ${data}`);
    if (message.event === "stop") ws.close();
  });

  ws.on("close", () => {
    const parts = [...tracks].map(([name, { chunks, bytes }]) => `${name} ${chunks} chunks, ${bytes} bytes`);
    log(`Connection closed. Received a total of ${received} messages`);
    log(`Stream: ${parts.join("; ")}; ${lost} messages lost`);
  });
});

process.on("SIGTERM", () => {
  const lists = Object.entries(handled).map(([sid, times]) => [sid, Array.from(times)]);
  if (LATENESS) writeFileSync(LATENESS, JSON.stringify(Object.fromEntries(lists)));
  process.exit();
});
