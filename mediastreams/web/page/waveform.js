// Draws lanes on a canvas over a time axis: peaks, gaps, keys and marks.

const BAR = 3; // pixels, with the space behind it
const AXIS = 18; // pixels below the lanes
const EVERY = [1, 2, 5, 10, 30, 60, 300, 600, 1800, 7200]; // seconds between two times of the axis

export class Waveform {
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.observer = new ResizeObserver(() => {
      canvas.width = canvas.clientWidth * devicePixelRatio;
      canvas.height = canvas.clientHeight * devicePixelRatio;
      draw();
    });
    this.observer.observe(canvas);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.onchange = draw;
  }

  close() {
    this.observer.disconnect();
    this.scheme.onchange = null;
  }

  // Draws the seconds from..to. `step` is the seconds of a peak. A lane has its `track`, and `peak`, a function
  // of a peak's number that returns 0..100, -1 in a gap, and null where there is no audio (yet). `events` are
  // [seconds, text]. `now` is where it plays. What was before the second `unseen` is not known.
  draw({ from, to, step, lanes, events, now, unseen }) {
    const { canvas, context } = this;
    const { clientWidth: width, clientHeight } = canvas;
    const style = getComputedStyle(canvas);
    const x = (seconds) => ((seconds - from) / (to - from)) * width;
    const fill = (color, ...box) => {
      context.fillStyle = style.getPropertyValue(`--${color}`);
      context.fillRect(...box);
    };
    const bottom = clientHeight - AXIS;
    const height = bottom / lanes.length;
    const peaks = Math.max(1, Math.round((BAR * (to - from)) / width / step)); // of a bar
    const bar = step * peaks;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, clientHeight);
    if (unseen > from) fill("raised", 0, 0, Math.min(width, x(unseen)), bottom);
    lanes.forEach(({ track, peak }, lane) => {
      const middle = (lane + 0.5) * height;
      fill("line", 0, middle - 0.5, width, 1);
      for (let n = Math.floor(from / bar); n * bar < to; n++) {
        const [left, right] = [x(n * bar), x((n + 1) * bar)];
        const found = Array.from({ length: peaks }, (_, i) => peak(n * peaks + i)).filter((value) => value != null);
        const half = (Math.sqrt(Math.max(...found) / 100) * (height - 6)) / 2;
        if (half >= 0) fill(track, left, middle - Math.max(half, 0.5), Math.max(1, right - left - 1), Math.max(2 * half, 1));
        else if (found.length) fill("gap", left, middle - height / 2 + 4, right - left + 0.5, height - 8);
      }
    });
    context.font = `11px ${style.fontFamily}`;
    const every = EVERY.find((seconds) => x(from + seconds) > 64);
    for (let at = Math.max(0, Math.ceil(from / every) * every); at <= to; at += every) {
      fill("muted", x(at), bottom, 1, 4);
      context.fillText(`${Math.floor(at / 60)}:${String(at % 60).padStart(2, "0")}`, x(at) + 4, clientHeight - 4);
    }
    let free = 0; // where the next text may begin
    for (const [at, text] of events) {
      if (at < from) continue;
      fill("text", x(at), 12, 1, bottom - 12);
      if (x(at) < free) continue;
      const short = text.slice(0, 20);
      context.fillText(short, x(at) - 1, 10);
      free = x(at) + context.measureText(short).width + 4;
    }
    if (now >= 0) fill("accent", x(now) - 1, 0, 2, bottom);
  }
}
