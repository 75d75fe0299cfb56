// What is known of the recordings in RECORDINGS_DIR.

import { getJson } from "./connection.js";

const SID = /MZ[\da-f]{32}/i; // of a stream; the name of its recording has it
const MAX_SIDS = 50; // in a request
const MAX_ATTEMPTS = 6; // to get a row with the call's ending, which is not there while a consumer is at work

export class Recordings {
  // `changed` is called when other rows are known.
  constructor(changed) {
    this.changed = changed;
    this.rows = null; // newest first; null before the first answer, and without RECORDINGS_DIR
    this.more = false; // whether there are older ones
    this.single = new Map(); // rows that were asked for by name or streamSid, by id; none of them is in `rows`
    this.asked = new Set(); // names that `find` has asked for since the server's last `hello`
    this.ended = new Map(); // streamSids of calls whose ending the rows lack, with the attempts that are left
    this.loads = 0; // how often the newest rows were asked for
    this.loaded = 0; // which of these questions has the answer that `rows` is
  }

  // The row of this name. One that is not known is asked for.
  find(id) {
    const row = this.rows?.find((row) => row.id === id) ?? this.single.get(id);
    if (id && !row && this.rows && !this.asked.has(id)) {
      this.asked.add(id);
      this.#loadSingle([id.match(SID)?.[0]]);
    }
    return row;
  }

  // The row of a stream's recording, if it is known.
  of(streamSid) {
    const isIts = (row) => row.streamSid === streamSid;
    return this.rows?.find(isIts) ?? [...this.single.values()].find(isIts);
  }

  // Gets the newest rows a second after a call has ended, when its files are complete; and every 5 s where calls
  // end one after the other.
  loadSoon(streamSid, attempts = MAX_ATTEMPTS) {
    this.ended.set(streamSid, attempts);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), 1000);
    this.unlisted ??= performance.now(); // when the first call ended that the rows may lack, in ms
    if (performance.now() - this.unlisted > 5000) this.load();
  }

  // Gets the newest rows.
  async load() {
    this.unlisted = null;
    const { ended } = this;
    this.ended = new Map();
    const load = ++this.loads;
    const found = await this.#get("");
    if (!found) {
      this.ended = new Map([...ended, ...this.ended]);
      return;
    }
    if (load < this.loaded) { // a later answer has come before this one
      for (const [sid, attempts] of ended) this.loadSoon(sid, attempts);
      return;
    }
    this.loaded = load;
    const { rows, more } = found;
    const last = rows.at(-1)?.id;
    // Those that were known stay, unless others may be between.
    const known = this.rows ?? [];
    const older = more && known[0]?.id >= last ? known.filter(({ id }) => id < last) : [];
    this.rows = [...rows, ...older];
    if (!older.length) this.more = more;
    const sids = new Set(rows.map(({ streamSid }) => streamSid));
    this.#forgetSingle(rows);
    if (more) await this.#loadSingle([...ended.keys()].filter((sid) => !sids.has(sid))); // they were long calls
    for (const [sid, attempts] of ended) {
      if (attempts > 1 && this.of(sid)?.ending === null) this.loadSoon(sid, attempts - 1);
    }
  }

  // Gets the rows before the last one, if there are any.
  async loadMore() {
    if (!this.more || this.isLoadingMore) return;
    this.isLoadingMore = true;
    const before = this.rows.at(-1).id;
    const found = await this.#get(`before=${before}`);
    this.isLoadingMore = false;
    if (!found || this.rows?.at(-1)?.id !== before) return;
    this.rows = [...this.rows, ...found.rows];
    this.more = found.more;
    this.#forgetSingle(found.rows);
  }

  async #loadSingle(sids) {
    const all = sids.filter((sid) => SID.test(sid)).map((sid) => `sid=${sid}`);
    for (let n = 0; n < all.length; n += MAX_SIDS) {
      const found = await this.#get(all.slice(n, n + MAX_SIDS).join("&"));
      for (const row of found?.rows ?? []) {
        const at = this.rows?.findIndex(({ id }) => id === row.id) ?? -1;
        if (at < 0) this.single.set(row.id, row);
        else this.rows[at] = row;
      }
    }
    if (all.length) this.changed();
  }

  #forgetSingle(rows) {
    for (const { id } of rows) this.single.delete(id);
    this.changed();
  }

  // Returns rows as the list shows them, and whether there are more; null where the server is gone, which the
  // page says.
  async #get(query) {
    try {
      const { recordings, more } = await getJson(`/page/recordings?${query}`);
      const rows = recordings.map((row) => ({
        ...row,
        id: row.name,
        startedAt: Date.parse(row.startedAt) / 1000,
        seconds: row.duration ?? 0,
        parameters: row.customParameters ?? {},
        ending: row.ended,
      }));
      return { rows, more };
    } catch {
      return null;
    }
  }
}
