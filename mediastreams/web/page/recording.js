// A recorded call: audio, captions, waveform, conversation, keys, marks and gaps on one time axis.

import { getJson } from "./connection.js";
import { describe, duration, element, ending, stamp, timed, TRACKS, turn, write } from "./text.js";
import { Waveform } from "./waveform.js";

export class RecordingView {
  // `item` is a row of the server's list.
  constructor(item) {
    Object.assign(this, { item, events: [], gaps: [], turns: [], lanes: [], step: 1 });
    const parts = (this.parts = stamp("recording"));
    this.root = parts.root;
    this.base = `/page/recordings/${item.id}`;
    this.#describe({ lost: "", late: "", bad: "" });
    write(parts.seconds, duration(item.seconds));
    for (const [kind, size] of Object.entries(item.files)) {
      const suffix = kind.replace(/^(?!-)/, "."); // or -inbound.raw
      const link = element("a", "button", `${kind.toUpperCase()} `, element("span", "muted num", `${Math.ceil(size / 1000)} kB`));
      link.href = `${this.base}${suffix}?download=1`;
      parts.downloads.append(link);
    }
    parts.figure.hidden = parts.audio.hidden = !item.files.wav;
    this.view = new Waveform(parts.wave, () => this.#draw());
    if (item.files.wav) this.#play();
    this.#load();
  }

  close() {
    this.view.close();
    cancelAnimationFrame(this.frame);
    this.parts.audio.pause();
    this.parts.audio.src = "";
  }

  #describe({ lost, late, bad }) {
    const { ended } = this.item;
    describe(this.parts, this.item, ended ? `Ended: ${ending(ended)}` : "No end was written", { Lost: lost, Late: late, Bad: bad });
  }

  #play() {
    const { audio, wave, caption } = this.parts;
    audio.src = `${this.base}.wav`;
    if (this.item.files.vtt) {
      const track = element("track", "");
      Object.assign(track, { kind: "captions", srclang: "en", src: `${this.base}.vtt` });
      audio.append(track);
      track.track.mode = "hidden"; // loaded, but an <audio> has no room to show it
      track.track.oncuechange = ({ target }) =>
        write(caption, [...target.activeCues].map((cue) => cue.getCueAsHTML().textContent).join(" "));
    }
    const follow = () => {
      cancelAnimationFrame(this.frame); // who seeks while it plays has asked for one already
      this.#draw();
      if (!audio.paused) this.frame = requestAnimationFrame(follow);
    };
    audio.onplay = audio.onseeked = follow;
    wave.onclick = ({ offsetX }) => (audio.currentTime = (offsetX / wave.clientWidth) * this.item.seconds);
  }

  async #load() {
    try {
      this.#tell(await getJson(`${this.base}.json`));
    } catch (error) {
      write(this.parts.notice, `What is known of this call cannot be read: ${error.message}`);
    }
    if (!this.item.files.wav) return;
    try {
      const { seconds, tracks, peaks } = await getJson(`${this.base}/peaks`);
      this.step = seconds / peaks[0].length;
      this.lanes = tracks.map((track, n) => ({ track, peak: (i) => (this.#isGap(track, i) ? -1 : peaks[n][i]) }));
      this.#draw();
    } catch (error) {
      write(this.parts.notice, `The waveform cannot be shown: ${error.message}`);
    }
  }

  // Shows what the JSON file tells.
  #tell({ transcripts, dtmf, marks, media, error, messages }) {
    const { parts } = this;
    this.#describe(messages);
    if (error) write(parts.notice, `The recording ended early: ${error}`);
    const put = (list, button, seconds) => {
      button.type = "button";
      button.onclick = () => {
        parts.audio.currentTime = seconds;
        parts.audio.play();
      };
      list.append(element("li", "", button));
    };
    for (const { track, text, start, end } of transcripts.sort((a, b) => a.start - b.start)) {
      const button = turn("button", "", start, track, text);
      this.turns.push({ button, start, end });
      put(parts.conversation, button, start);
    }
    const keys = dtmf.map(({ digit, at }) => [at, digit ?? "", "Key "]);
    this.events = [...keys, ...marks.map(({ name, at }) => [at, name, "Mark "])];
    this.gaps = Object.entries(media).flatMap(([track, { gaps = [] }]) => gaps.map((gap) => ({ track, ...gap })));
    parts.gap.hidden = !this.gaps.length;
    const missing = this.gaps.map(({ track, at, duration }) => [at, `${TRACKS[track]}: ${duration} s missing`]);
    for (const [at, text, kind = ""] of [...this.events, ...missing].sort((a, b) => a[0] - b[0]).slice(0, 1000)) {
      put(parts.events, timed("button", "event", duration(at), kind + text), at);
    }
  }

  #isGap(track, i) {
    const [begin, end] = [i * this.step, (i + 1) * this.step];
    return this.gaps.some((gap) => gap.track === track && begin >= gap.at && end <= gap.at + gap.duration);
  }

  #draw() {
    const { lanes, step, events, item, parts } = this;
    const now = parts.audio.currentTime;
    for (const { button, start, end } of this.turns) button.ariaCurrent = now && now >= start && now < end ? "true" : null;
    this.view.draw({ from: 0, to: item.seconds || 1, step, lanes, events, now });
  }
}
