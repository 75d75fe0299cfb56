// Listening to one call: the AudioContext, its worklet, and the bar at the bottom of the page.

import { parts, TRACKS, who, write } from "./text.js";

export class Listener {
  // `send` asks the server; `changed` is called when another call, or none, is listened to.
  constructor(send, changed) {
    Object.assign(this, { send, changed, call: null, node: null, muted: {} });
    this.parts = parts(document.getElementById("player"));
    this.parts.stop.onclick = () => this.stop();
    for (const track in TRACKS) {
      this.parts[track].onclick = ({ target }) => {
        this.muted[track] = !this.muted[track];
        write(target, `${this.muted[track] ? "Unmute" : "Mute"} ${TRACKS[track].toLowerCase()}`);
        this.#mute();
      };
    }
  }

  toggle(call) {
    if (this.call === call) this.stop();
    else this.start(call);
  }

  async start(call) {
    this.call = call;
    this.parts.root.hidden = false;
    for (const track in TRACKS) this.parts[track].hidden = !call.tracks.includes(track);
    write(this.parts.who, who(call));
    write(this.parts.delay, "Connecting");
    this.changed();
    try {
      await (this.ready ??= this.#open());
      await this.context.resume();
    } catch (error) {
      this.ready = null;
      write(this.parts.delay, `This browser cannot play it: ${error.message}`);
      return;
    }
    if (this.call === call) this.send({ event: "listen", id: call.id });
  }

  stop() {
    this.call = null;
    this.parts.root.hidden = true;
    this.send({ event: "listen", id: null });
    this.context?.suspend();
    this.changed();
  }

  // The server's answer to "listen".
  started({ id, number, rate }) {
    if (id && id === this.call?.id) this.node.port.postMessage({ number, rate });
    else if (!id && this.call?.endedAt) this.stop();
  }

  audio(data) {
    if (this.call) this.node?.port.postMessage(data, [data]);
  }

  async #open() {
    // The rate is the system's: where it is pinned to the call's, some play nothing.
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/worklet.js");
    this.node = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [2] });
    this.node.port.onmessage = ({ data }) => write(this.parts.delay, `${data.delay.toFixed(1)} s behind`);
    this.node.connect(this.context.destination);
    this.#mute();
  }

  #mute() {
    this.node?.port.postMessage({ muted: Object.keys(TRACKS).map((track) => !!this.muted[track]) });
  }
}
