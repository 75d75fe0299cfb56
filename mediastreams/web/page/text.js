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

// Who calls: the parameters' values, else the call's SID.
export const who = ({ parameters, callSid }) => Object.values(parameters).join(" · ") || callSid || "Unnamed call";

// A copy of a template, and its elements by their data-f.
export const stamp = (name) => parts(document.getElementById(name).content.firstElementChild.cloneNode(true));

export function parts(root) {
  const named = [...root.querySelectorAll("[data-f]")].map((part) => [part.dataset.f, part]);
  return { root, ...Object.fromEntries(named) };
}

// An element with a class, and text or elements in it.
export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

// A line that begins with its time in the call.
export const timed = (name, className, seconds, ...children) =>
  element(name, className, element("span", "num muted", duration(seconds)), ...children);

export const turn = (name, className, seconds, track, text) =>
  timed(name, `turn ${className}`, seconds, element("span", `speaker ${track}`, TRACKS[track]), element("span", "said", text));

// Sets an element's text, without work where it stays; no text hides a notice.
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
  if (target.className === "notice") target.hidden = !text;
}

// Shows what a call is, above the rest of its view.
export function describe({ who: name, how, facts }, call, state, counts) {
  write(name, who(call));
  write(how, state);
  const pairs = {
    Stream: call.streamSid,
    Call: call.callSid,
    Since: clock(call.startedAt),
    Tracks: (call.tracks ?? []).join(", "),
    ...counts,
  };
  const all = [...Object.entries(pairs), ...Object.entries(call.parameters)];
  facts.replaceChildren(...all.map(([name, value]) => element("div", "", element("dt", "", name), element("dd", "", value ?? ""))));
}

// Shows dBFS on a <meter> of 60 dB; null is silence. Returns whether somebody speaks.
export function meter(target, level) {
  target.value = 60 + (level ?? -60);
  return level >= -45 && level != null; // as on the console
}
