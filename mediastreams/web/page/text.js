// What the views share: times, names, elements. What a peer chose becomes text, never HTML.

export const TRACKS = { inbound: "Caller", outbound: "Callee" };

// Seconds as 1:05 or 1:00:05.
export function duration(seconds) {
  const [h, m, s] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  const pad = (number) => String(number).padStart(2, "0");
  return h ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

// The time of day of seconds since 1970, with the date where that is not today.
export function clock(epoch) {
  const date = new Date(1000 * epoch);
  const time = date.toLocaleTimeString([], { hour12: false });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

// What is told of who calls, as pairs. `bidirectional` is not: it says how the stream was asked for.
const told = ({ parameters }) => Object.entries(parameters).filter(([name]) => name !== "bidirectional");

// Who calls: the parameters' values, else the call's SID.
export const who = (call) => told(call).map(([, value]) => value).filter((value) => value.trim()).join(" · ") || `Call ${call.callSid?.slice(0, 8) || "without a name"}`;

// The server that a call is on; "" where there is only one.
export const serverOf = ({ id }) => id.match(/(.+)\//)?.[1] ?? "";

export const ending = (how) => (how === "stop" ? "hung up" : how);

// A copy of a template, and its elements by their data-f.
export const stamp = (name) => parts(document.getElementById(name).content.firstElementChild.cloneNode(true));

export function parts(root) {
  const named = { root };
  for (const part of root.querySelectorAll("[data-f]")) named[part.dataset.f] = part;
  return named;
}

// An element with a class, and text or elements in it.
export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

// A line that begins with a time.
export const timed = (name, className, time, ...children) => element(name, className, element("span", "num muted", time), " ", ...children);

export const turn = (name, className, start, track, text) =>
  timed(name, `turn ${className}`, duration(start), element("span", `speaker ${track}`, TRACKS[track]), element("span", "said", text));

// Sets an element's text, without work where it stays; no text hides a notice.
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
  if (target.className === "notice") target.hidden = !text;
}

// Shows what a call is, above the rest of its view.
export function describe(parts, call, state, counts) {
  const { facts } = parts;
  write(parts.who, (parts.who.title = who(call)));
  write(parts.how, state);
  for (const track in TRACKS) parts[`${track}-lane`].hidden = !call.tracks.includes(track);
  const { streamSid, callSid, startedAt, tracks } = call;
  const pairs = { Stream: streamSid, Call: callSid, Since: clock(startedAt), Tracks: tracks.join(", "), ...counts };
  const all = [...Object.entries(pairs), ...told(call)];
  if (facts.shown === (facts.shown = all.join())) return; // what somebody has marked stays so
  facts.replaceChildren(...all.map(([name, value]) => element("div", "", element("dt", "", name), element("dd", "", value ?? ""))));
}

// Shows dBFS on a <meter> of 60 dB; null is silence. Returns whether somebody speaks.
export function meter(target, level) {
  target.value = 60 + (level ?? -60);
  return target.value >= 15; // -45 dBFS, as on the console
}
