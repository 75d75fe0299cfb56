// Plays the two tracks of a call, inbound left and outbound right, about TARGET behind what has come.
//
// Each track has a ring of decoded samples at the call's rate, by their position in the call. What was played is
// set to silence there, so that a gap is silent, and so is what is passed a second time.

const TARGET = 0.3; // seconds between what is played and what has come
const SLACK = 0.05; // seconds off TARGET
const LONGEST = 0.8; // more than that is cut to TARGET
const SIZE = 2 ** 17; // samples of a ring
const TAPS = 16; // of the windowed sinc that makes the context's rate out of the call's
const PHASES = 256;
const FADE = 0.005; // how much nearer to muted or not each sample gets

const DECODED = Float32Array.from({ length: 256 }, (_, code) => {
  const bits = ~code;
  const value = ((((bits & 15) << 3) + 132) << ((bits >> 4) & 7)) - 132;
  return (bits & 128 ? -value : value) / 32768;
});

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.muted = [false, false];
    this.gains = [1, 1];
    this.underruns = 0;
    this.reported = 0;
    this.port.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.add(data);
      else if (data.muted) this.muted = data.muted;
      else this.begin(data);
    };
  }

  // A new call: `number` is in the header of its audio, `rate` its samples a second.
  begin({ number, rate }) {
    Object.assign(this, { number, rate });
    this.rings = [new Float32Array(SIZE), new Float32Array(SIZE)];
    this.playing = false; // until something has come
    this.at = this.end = 0; // the position that is played, and the one behind the last that has come
    this.fraction = 0; // of a sample, behind `at`
    this.mean = TARGET; // seconds that wait, when something has come
    this.ran = false; // out of samples
    const cut = Math.min(1, sampleRate / rate);
    this.taps = Array.from({ length: PHASES }, (_, phase) =>
      Float32Array.from({ length: TAPS }, (_, tap) => {
        const t = tap - TAPS / 2 + 1 - phase / PHASES;
        const x = Math.PI * t * cut || 1e-9;
        return cut * (Math.sin(x) / x) * Math.cos((Math.PI * t) / (TAPS + 2)) ** 2;
      }));
  }

  // Puts audio into its ring. Positions are counted modulo 2^32, so only their differences mean something.
  add(data) {
    const header = new DataView(data);
    if (!this.rings || header.getUint16(2, true) !== this.number) return;
    const ring = this.rings[header.getUint8(0) & 1];
    const position = header.getUint32(4, true) | 0;
    const payload = new Uint8Array(data, 8);
    const end = (position + payload.length) | 0;
    if (!this.playing || ((end - this.end) | 0) > 0) this.end = end;
    if (!this.playing) this.at = (end - TARGET * this.rate) | 0;
    this.playing = true;
    const wait = ((this.end - this.at) | 0) / this.rate;
    if (wait > LONGEST || (this.ran && wait < TARGET / 3)) this.jump((this.end - TARGET * this.rate) | 0);
    else this.mean += (Math.min(wait, LONGEST) - this.mean) / 32;
    this.ran = false;
    for (let i = 0; i < payload.length; i++) {
      const sample = (position + i) | 0;
      if (((sample - this.at) | 0) >= 0) ring[sample & (SIZE - 1)] = DECODED[payload[i]];
    }
  }

  jump(to) {
    const passed = Math.max(TAPS / 2, Math.min(SIZE, (to - this.at) | 0));
    for (let i = 0; i < passed; i++) this.clear((this.at + i) | 0);
    this.at = to;
    this.mean = TARGET;
  }

  clear(position) {
    for (const ring of this.rings) ring[(position - TAPS / 2) & (SIZE - 1)] = 0;
  }

  process(_, [output]) {
    if (!this.playing) return true;
    // The call's clock and this one differ: where that adds up, play half a percent faster or slower.
    const drift = Math.abs(this.mean - TARGET) > SLACK ? Math.sign(this.mean - TARGET) * 0.005 : 0;
    const step = (this.rate / sampleRate) * (1 + drift);
    for (let i = 0; i < output[0].length; i++) {
      const taps = this.taps[(this.fraction * PHASES) | 0];
      for (let n = 0; n < 2; n++) {
        const ring = this.rings[n];
        let sum = 0;
        for (let tap = 0; tap < TAPS; tap++) sum += taps[tap] * ring[(this.at + tap - TAPS / 2 + 1) & (SIZE - 1)];
        this.gains[n] += ((this.muted[n] ? 0 : 1) - this.gains[n]) * FADE;
        output[n][i] = Math.max(-1, Math.min(1, sum * this.gains[n]));
      }
      this.fraction += step;
      for (; this.fraction >= 1; this.fraction--) {
        this.clear(this.at);
        this.at = (this.at + 1) | 0;
      }
    }
    if (!this.ran && ((this.end - this.at) | 0) <= 0) {
      this.ran = true;
      this.underruns++;
    }
    if (currentTime - this.reported >= 1) {
      this.reported = currentTime;
      this.port.postMessage({ delay: Math.max(0, ((this.end - this.at) | 0) / this.rate), underruns: this.underruns });
    }
    return true;
  }
}

registerProcessor("player", Player);
