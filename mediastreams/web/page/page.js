// The page: what is known of the calls, which view is shown (location.hash), and what the server is asked for.

import { CallView } from "./call.js";
import { connect } from "./connection.js";
import { List } from "./list.js";
import { Listener } from "./listen.js";
import { RecordingView } from "./recording.js";
import { Recordings } from "./recordings.js";
import { clock, duration, ending, meter, parts, serverOf, stamp, TRACKS, who, write } from "./text.js";

const page = parts(document);
const calls = new Map(); // the server's rows by their id, live and ended
let several = false; // whether the calls are those of several servers
let connected = false;
let hello = {}; // what the server says of itself
let listened = null; // the call that was listened to when the connection ended
let showing; // a timer
let listsEnded = false; // whether the list is that of the ended calls
let view = null; // the CallView or RecordingView that is shown

const send = connect({ message, audio: (data) => listener.audio(data), gone });
const list = new List(page.scroller, page.rows, makeRow, fillRow, () => {
  clearTimeout(showing); // who scrolls asks once
  showing = setTimeout(show, 100);
});
const listener = new Listener(send, update);
const recordings = new Recordings(() => {
  route();
  loadMore();
});
const nothing = makeNothing();

// What location.hash names, and the id in it.
const place = () => location.hash.match(/^#(live|ended|call|recording)(?:\/([\w./-]+))?$/) ?? [];
// The call with this id: also one that the server has forgotten, while it is shown.
const find = (id) => calls.get(id) ?? (id && view?.item.id === id ? view.item : undefined);
const isEnded = () => /ended|recording/.test(place()[1]) || !!find(place()[2])?.endedAt;

function makeRow({ id, files }) {
  const row = stamp("row");
  row.link.href = `#${files ? "recording" : "call"}/${id}`;
  row.listen.onclick = () => listener.toggle(calls.get(id));
  return row;
}

function fillRow(row, item) {
  const { files, endedAt, words, lost, late, bad, missing, decodable = true, tracks } = item;
  const isLive = !files && !endedAt;
  const wrong = Object.entries({ lost, late, bad, "s missing": missing }).filter(([, count]) => count);
  write(row.who, who(item));
  write(row.since, clock(item.startedAt));
  write(row.seconds, duration(seconds(item)));
  write(row.sids, `${item.callSid?.slice(0, 8) ?? ""} ${item.streamSid?.slice(0, 8)}${several ? ` ${serverOf(item)}` : ""}`);
  write(row.words, words ? `${words.speaker}: ${words.text}` : isLive ? "" : ending(item.ending));
  write(row.trouble, decodable ? wrong.map(([what, count]) => `${count} ${what}`).join(", ") : "not decoded");
  row.listen.hidden = !isLive || !isSecureContext || !decodable;
  row.listen.ariaPressed = listener.call === item;
  row.listen.ariaLabel = `Listen to ${who(item)}`;
  for (const track in TRACKS) row[track].hidden = !isLive || !tracks.includes(track);
  if (!isLive) showLevels(row, {}); // of an ended call none come
  row.link.ariaCurrent = item.streamSid === view?.item.streamSid ? "page" : null;
}

function seconds({ seconds, since, endedAt }) {
  return seconds + (since && !endedAt && connected ? (performance.now() - since) / 1000 : 0);
}

function drawList() {
  const all = [...calls.values()].sort((a, b) => b.startedAt - a.startedAt);
  const live = all.filter(({ endedAt }) => !endedAt);
  several = new Set(all.map(serverOf)).size > 1;
  const sids = new Set(live.map(({ streamSid }) => streamSid)); // they are being recorded
  const past = recordings.rows?.filter(({ streamSid }) => !sids.has(streamSid)) ?? all.filter(({ endedAt }) => endedAt);
  const items = isEnded() ? past : live;
  if (listsEnded !== isEnded()) page.scroller.scrollTop = 0; // it is the other list now
  listsEnded = isEnded();
  write(page["live-count"], `${live.length}`);
  write(page["ended-count"], recordings.rows ? `${past.length}${recordings.more ? "+" : ""}` : `${past.length < 100 ? "" : "last "}${past.length}`);
  page["live-tab"].ariaCurrent = isEnded() ? null : "page";
  page["ended-tab"].ariaCurrent = isEnded() ? "page" : null;
  document.title = !connected ? "Not connected" : live.length === 1 ? "1 call" : `${live.length} calls`;
  document.body.classList.toggle("idle", !items.length && !view); // how to place a call is shown
  write(nothing.heading, items.length ? "Choose a call" : !connected ? "Not connected" : isEnded() ? "No ended calls yet"
    : hello.workers > 1 ? "No calls in this worker process" : "No calls now");
  nothing.unrecorded.hidden = recordings.rows || !isEnded();
  list.set(items);
}

// Tells the server whose levels and words are on the screen.
function show() {
  const ids = document.hidden ? [] : [view?.item.id, ...list.rows.keys()].filter((id) => calls.has(id));
  send({ event: "show", ids: [...new Set(ids)].slice(0, 100) });
}

function update() {
  drawList();
  if (view instanceof CallView) view.update(listener.call, recordings.of(view.item.streamSid), hello.recogniser);
}

function makeNothing() {
  const made = stamp("nothing");
  const { command, copy } = made;
  copy.onclick = async () => {
    getSelection().selectAllChildren(command); // without https there is no clipboard
    await navigator.clipboard.writeText(command.textContent);
    write(copy, "Copied");
  };
  return made;
}

// Shows what location.hash names.
function route() {
  const [, kind, id] = place();
  if (!kind) history.replaceState(null, "", location.pathname); // it may be the token
  const isRecording = kind === "recording";
  const item = isRecording ? recordings.find(id) : find(id);
  const isShown = item && item.id === view?.item.id && isRecording === view instanceof RecordingView;
  // A recording that another process goes on with is shown anew when it has ended.
  if (!isShown || (isRecording && item.ending !== view.item.ending)) {
    document.body.classList.toggle("chosen", !!item);
    view?.close();
    view = item ? (isRecording ? new RecordingView(item) : new CallView(item, (call) => listener.toggle(call))) : null;
    send({ event: "select", id: item && !isRecording ? id : null });
    update();
    show();
    page.view.replaceChildren((view ?? nothing).root);
    if (item && !page.scroller.offsetParent) view.parts.who.focus(); // on a phone what had the focus is gone
  }
  update();
  tick();
}

// Gets older recordings where the end of the list is near.
function loadMore() {
  const { scrollTop, clientHeight, scrollHeight } = page.scroller;
  if (isEnded() && clientHeight && scrollTop + 2 * clientHeight >= scrollHeight) recordings.loadMore();
}

// -- what the server says

function message(message) {
  if (message.event in handlers) handlers[message.event](message);
  if (view instanceof CallView && view.item.id === message.id) view[message.event]?.(message);
}

const handlers = {
  hello(message) {
    const { workers, alone, caller, recordings: isRecording } = (hello = message);
    const address = location.host === "localhost:5000" ? "" : ` ${location.origin.replace("http", "ws")}/media`;
    write(nothing.command, caller + address);
    connected = true;
    document.body.classList.remove("gone");
    write(page.state, "Connected");
    write(page.workers, alone ? "Redis is away: this page shows new calls of one server only." : workers > 1 ? `This page shows the calls of one of ${workers} worker processes: reload it for another one's.` : "");
    recordings.asked.clear();
    if (isRecording) recordings.load();
    else recordings.rows = null;
  },
  calls({ live, ended }) {
    const before = new Map(calls);
    calls.clear();
    merge([...live, ...ended]);
    // After a restart the same id is another call.
    const isSame = (id) => before.get(id)?.streamSid === calls.get(id)?.streamSid;
    if (view instanceof CallView && !isSame(view.item.id)) location.hash = "#live";
    if (view instanceof CallView) view = view.close(); // a new one asks for all again
    route();
    show();
    if (listened && isSame(listened.id)) listener.toggle(calls.get(listened.id));
    listened = null;
  },
  changed({ calls: rows }) {
    merge(rows);
    for (const { id, endedAt } of rows) if (endedAt && hello.recordings) recordings.loadSoon(calls.get(id).streamSid);
    update();
  },
  removed({ ids }) {
    for (const id of ids) calls.delete(id);
    drawList();
  },
  transcript(words) {
    const call = calls.get(words.id);
    if (call && words.text) call.words = words;
    list.draw();
  },
  levels({ levels }) {
    for (const [id, row] of list.rows) showLevels(row, levels[id] ?? {});
    if (view instanceof CallView) view.levels(levels[view.item.id] ?? {});
  },
  listening: (answer) => listener.started(answer),
};

function merge(rows) {
  for (const row of rows) {
    const call = Object.assign(calls.get(row.id) ?? {}, row);
    calls.set(row.id, call);
    if ("seconds" in row) call.since = performance.now();
    if (row.endedAt && listener.call === call) setTimeout(() => listener.call === call && listener.stop(), 1000);
  }
}

function showLevels(row, levels) {
  const speaking = Object.keys(TRACKS).filter((track) => meter(row[track], levels[track]));
  write(row.speaking, ["", `${TRACKS[speaking[0]]} speaking`, "Both speaking"][speaking.length]);
}

function gone(sentence) {
  connected = false;
  document.body.classList.add("gone");
  write(page.state, `${sentence} Trying again.`);
  listened ??= listener.call;
  listener.stop();
  handlers.levels({ levels: {} });
}

function tick() {
  list.draw();
  if (view instanceof CallView) view.tick(seconds(view.item));
}

addEventListener("hashchange", () => {
  if (location.hash && !place()[1]) location.reload(); // with a new token: the server asks for it, or needs it no more
  route();
  loadMore();
});
addEventListener("keydown", ({ key }) => key === "Escape" && view && (location.hash = isEnded() ? "#ended" : "#live"));
document.addEventListener("visibilitychange", show);
page.scroller.addEventListener("scroll", loadMore);
setInterval(tick, 1000);
route();
