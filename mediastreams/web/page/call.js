// One call while it happens: its numbers, waveform, conversation, keys, marks and log lines.

import { clock, describe, duration, ending, meter, serverOf, stamp, timed, TRACKS, turn, write } from "./text.js";
import { Waveform } from "./waveform.js";

const STEP = 0.02; // seconds of a peak
const SECONDS = 20; // on the canvas
const KEPT = 2048; // peaks of a track
const MAX_LINES = 500; // of the conversation, and of the log: the oldest go
const MAX_EVENTS = 1000; // keys and marks: likewise
const still = matchMedia("(prefers-reduced-motion: reduce)");

// Its methods `call` to `wave` take the server's messages of that name.
export class CallView {
  constructor(item, listen) {
    Object.assign(this, { item, events: [], peaks: {}, partials: {}, latest: 0, head: 0, rolled: 0 });
    const parts = (this.parts = stamp("call"));
    this.root = parts.root;
    parts.listen.onclick = () => listen(item);
    parts.listen.disabled = !isSecureContext;
    this.view = new Waveform(parts.wave, () => this.#draw());
    new ResizeObserver(() => [parts.conversation, parts.log].filter(isAtEnd).forEach(toEnd)).observe(parts.conversation);
    this.#roll(0);
  }

  close() {
    this.view.close();
    cancelAnimationFrame(this.frame);
  }

  // The row has changed, or what is listened to. `recording` is the call's, if there is one; `recogniser` says
  // whether the server has one.
  update(listened, recording, recogniser) {
    const { item, parts } = this;
    const { endedAt, decodable, lost, late, bad, missing } = item;
    const state = endedAt ? `Ended: ${ending(item.ending)}` : `Live, ${item.twoWay ? "two-way" : "one-way"}`;
    const counts = { Format: item.format, Lost: lost, Late: late, Bad: bad, Missing: `${missing.toFixed(2)} s` };
    const server = serverOf(item);
    describe(parts, item, state, server ? { ...counts, Server: server } : counts);
    write(parts.notice, !decodable ? "This audio is not decoded: it cannot be seen or heard."
      : isSecureContext ? "" : "To listen, open this page over https or at http://localhost.");
    parts.listen.ariaPressed = listened === item;
    write(parts.listen, listened === item ? "Stop listening" : "Listen");
    parts.listen.hidden = endedAt || !decodable;
    parts.figure.hidden = !decodable || (endedAt && !this.latest);
    write(parts.silence, !recogniser ? "No transcripts: the server has no recogniser (TRANSCRIBER)."
      : endedAt ? "Nothing was said." : "Nothing was said yet.");
    parts.play.hidden = !recording;
    if (recording) parts.play.href = `#recording/${recording.id}`;
    if (!endedAt) return;
    this.levels({});
    for (const track in this.partials) this.transcript({ track });
    parts.back.href = "#ended";
  }

  tick(seconds) {
    write(this.parts.seconds, duration(seconds));
  }

  levels(levels) {
    for (const track in TRACKS) {
      const level = levels[track];
      const speaks = meter(this.parts[track], level);
      write(this.parts[`${track}-db`], level == null ? "" : `${Math.round(level)} dBFS${speaks ? " speaking" : ""}`);
    }
  }

  // All so far.
  call({ transcripts, lines, digits, marks }) {
    const { parts } = this;
    for (const name of ["final", "partial", "log", "events"]) {
      const empty = parts[name].cloneNode(); // of a new one, a screen reader does not read all
      parts[name].replaceWith(empty);
      parts[name] = empty;
    }
    Object.assign(this, { partials: {}, events: [] });
    for (const transcript of transcripts) this.transcript(transcript);
    for (const line of lines) this.line(line);
    for (const event of [...digits, ...marks].sort((a, b) => a.at - b.at)) this.mark(event);
  }

  transcript({ track, text, final, start }) {
    const { parts, partials } = this;
    const follows = isAtEnd(parts.conversation);
    partials[track]?.remove();
    delete partials[track];
    if (text) {
      const line = turn("p", final ? "" : "partial", start, track, text);
      line.start = start;
      if (final) {
        const before = [...parts.final.children].findLast((other) => other.start <= start);
        if (before) before.after(line);
        else parts.final.prepend(line);
        if (parts.final.children.length > MAX_LINES) parts.final.firstChild.remove();
      } else parts.partial.append((partials[track] = line));
    }
    parts.silence.hidden = parts.final.firstChild || parts.partial.firstChild;
    if (follows) toEnd(parts.conversation);
  }

  line({ at, level, text }) {
    const { log } = this.parts;
    const follows = isAtEnd(log);
    log.append(timed("p", /INFO|DEBUG/.test(level) ? "" : "warn", clock(at), text));
    if (log.children.length > MAX_LINES) log.firstChild.remove();
    if (follows) toEnd(log);
  }

  mark({ at, digit, name }) {
    const { events } = this.parts;
    this.events.push([at, name ?? digit ?? ""]);
    events.append(timed("li", "event", duration(at), name == null ? `Key ${digit ?? ""}` : `Mark ${name}`));
    if (events.children.length <= MAX_EVENTS) return;
    events.firstChild.remove();
    this.events.shift();
  }

  dtmf(event) {
    this.mark(event);
  }

  wave({ track, start, peaks }) {
    const kept = (this.peaks[track] ??= { first: start, values: new Int8Array(KEPT), end: start });
    if (start > kept.end) this.parts.gap.hidden = false;
    for (let i = Math.max(kept.end, start - KEPT); i < start; i++) kept.values[i % KEPT] = -1; // a gap
    peaks.forEach((peak, i) => (kept.values[(start + i) % KEPT] = peak));
    kept.end = Math.max(kept.end, start + peaks.length);
    this.latest = Math.max(this.latest, kept.end);
  }

  // Moves the waveform on: evenly, though peaks come a few times a second; in steps for who wants no motion.
  #roll(now) {
    this.frame = requestAnimationFrame((now) => this.#roll(now));
    const moved = (now - this.rolled) / 1000 / STEP;
    if (still.matches && moved < 0.5 / STEP) return;
    this.rolled = now;
    if (this.head === this.latest) return;
    this.head = Math.min(this.latest, Math.max(this.head + moved, this.latest - 50));
    this.#draw();
  }

  #draw() {
    const to = Math.max(SECONDS, this.head * STEP);
    const lanes = this.item.tracks.map((track) => {
      const { first = 0, end = 0, values } = this.peaks[track] ?? {};
      const peak = (i) => (i < Math.max(first, end - KEPT) || i >= Math.min(end, this.head) ? null : values[i % KEPT]);
      return { track, peak };
    });
    const unseen = Math.min(...Object.values(this.peaks).map(({ first }) => first)) * STEP;
    this.parts.unseen.hidden = unseen <= to - SECONDS;
    this.view.draw({ from: to - SECONDS, to, step: STEP, lanes, events: this.events, unseen });
  }
}

// Whether the last line is shown, so that the next one should be too.
const isAtEnd = ({ scrollTop, clientHeight, scrollHeight }) => scrollTop + clientHeight > scrollHeight - 60;
const toEnd = (pane) => (pane.scrollTop = 1e9);
