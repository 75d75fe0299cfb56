// Rows of one height, of which only those on the screen have elements.

const HEIGHT = 76; // pixels, as .row in page.css
const BEYOND = 4; // rows above and below the screen

export class List {
  // `make` and `fill` make a row's elements and set their text; `changed` is called when other rows have some.
  constructor(scroller, list, make, fill, changed) {
    Object.assign(this, { scroller, list, make, fill, changed, items: [], shown: "" });
    this.rows = new Map(); // those with elements, by id
    scroller.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(scroller);
    addEventListener("keydown", (event) => this.#key(event));
  }

  // Shows these items, each with an `id`.
  set(items) {
    this.items = items;
    this.list.style.height = `${items.length * HEIGHT}px`;
    this.draw();
  }

  draw() {
    const { items, rows, list, scroller } = this;
    const first = Math.max(0, Math.floor(scroller.scrollTop / HEIGHT) - BEYOND);
    const wanted = items.slice(first, Math.ceil((scroller.scrollTop + scroller.clientHeight) / HEIGHT) + BEYOND);
    const ids = wanted.map(({ id }) => id);
    for (const [id, row] of rows) {
      if (ids.includes(id)) continue;
      row.root.remove();
      rows.delete(id);
    }
    wanted.forEach((item, n) => {
      const row = rows.get(item.id) ?? this.make(item);
      rows.set(item.id, row);
      if (list.children[n] !== row.root) list.insertBefore(row.root, list.children[n] ?? null);
      row.root.style.top = `${(first + n) * HEIGHT}px`;
      row.root.ariaPosInSet = first + n + 1;
      row.root.ariaSetSize = items.length;
      this.fill(row, item);
    });
    if (this.shown === (this.shown = ids.join())) return;
    this.changed();
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const row = event.target.closest(".row");
    const { scroller, items } = this;
    const isHere = row || (event.target === document.body && scroller.offsetParent && items.length);
    if (!step || !isHere) return;
    event.preventDefault();
    const at = Math.min(items.length - 1, Math.max(0, (row?.ariaPosInSet ?? 0) - 1 + step));
    const top = at * HEIGHT;
    scroller.scrollTop = Math.max(top + HEIGHT - scroller.clientHeight, Math.min(top, scroller.scrollTop));
    this.draw();
    this.rows.get(items[at].id).link.focus();
  }
}
