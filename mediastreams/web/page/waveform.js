// Draws two lanes on a canvas over a time axis: peaks, gaps, keys and marks.

const BAR = 3; // pixels, with the space behind it
const AXIS = 18; // pixels below the lanes
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]; // seconds between two times of the axis

export class Waveform {
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    const redraw = () => {
      const scale = devicePixelRatio;
      this.width = canvas.clientWidth;
      this.height = canvas.clientHeight;
      canvas.width = this.width * scale;
      canvas.height = this.height * scale;
      this.context.scale(scale, scale);
      draw();
    };
    this.observer = new ResizeObserver(redraw);
    this.observer.observe(canvas);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.onchange = draw;
  }

  close() {
    this.observer.disconnect();
    this.scheme.onchange = null;
  }

  // Draws the seconds from..to. `step` is the seconds of a peak. A lane has its `track`, and `peak`, a function
  // of a peak's number that returns 0..100, null where there is no audio (yet), and -1 in a gap. `events` are
  // [seconds, text]. `now` is where it plays.
  draw({ from, to, step, lanes, events, now }) {
    const { context: c, width, height, canvas } = this;
    if (!width) return;
    const style = getComputedStyle(canvas);
    const color = (name) => style.getPropertyValue(`--${name}`);
    const x = (seconds) => ((seconds - from) / (to - from)) * width;
    const laneHeight = (height - AXIS) / lanes.length;
    const group = Math.max(1, Math.round(((to - from) / width) * BAR / step)); // peaks of a bar
    const pixels = (step * group * width) / (to - from);
    c.clearRect(0, 0, width, height);
    lanes.forEach(({ track, peak }, n) => {
      const middle = (n + 0.5) * laneHeight;
      c.fillStyle = color("line");
      c.fillRect(0, middle - 0.5, width, 1);
      for (let bar = Math.floor(from / step / group); bar * group * step < to; bar++) {
        let loudest = null;
        for (let i = bar * group; i < (bar + 1) * group; i++) loudest = peak(i) == null ? loudest : Math.max(loudest ?? -1, peak(i));
        if (loudest == null) continue;
        const left = x(bar * group * step);
        if (loudest < 0) {
          c.fillStyle = color("gap");
          c.fillRect(left, n * laneHeight + 4, pixels + 0.5, laneHeight - 8);
        } else {
          const half = Math.max(0.5, (Math.sqrt(loudest / 100) * (laneHeight - 6)) / 2);
          c.fillStyle = color(track);
          c.fillRect(left, middle - half, Math.max(1, pixels - 1), 2 * half);
        }
      }
    });
    c.font = `11px ${style.fontFamily}`;
    const every = STEPS.find((seconds) => x(from + seconds) > 64) ?? 7200;
    c.fillStyle = color("muted");
    for (let at = Math.max(0, Math.ceil(from / every) * every); at <= to; at += every) {
      c.fillRect(x(at), height - AXIS, 1, 4);
      const minutes = Math.floor(at / 60);
      c.fillText(`${minutes}:${String(at % 60).padStart(2, "0")}`, x(at) + 4, height - 4);
    }
    for (const [at, text] of events) {
      if (at < from || at > to) continue;
      c.fillStyle = color("text");
      c.fillRect(x(at), 0, 1, height - AXIS);
      c.fillText(text.slice(0, 20), x(at) + 3, 10);
    }
    if (now != null) {
      c.fillStyle = color("accent");
      c.fillRect(x(now) - 1, 0, 2, height - AXIS);
    }
  }
}
