"""What a server has published, as another program reads it from Redis."""

import itertools

from mediastreams.cluster.entries import CALLS, MediaItem, audio_key, decode_announced, decode_entry


def announced(client):
    """Return the calls that are announced, the oldest first."""
    return [decode_announced(fields) for _, fields in client.xrange(CALLS)]


def all_entries(client, sid):
    """Return what is there of all calls that had this SID, with repeats."""
    return [decode_entry(fields) for _, fields in client.xrange(audio_key(sid))]


def entries(client, sid):
    """Return the entries of a call in their order, without repeats, as a reader has them."""
    read = []
    for entry in all_entries(client, sid):
        if not read or entry.n > read[-1].n:
            read.append(entry)
    return read


def items(client, sid):
    """Return the items of a call's entries."""
    return list(itertools.chain.from_iterable(entry.items for entry in entries(client, sid)))


def media(client, sid):
    """Return the chunks of a call."""
    return [item for item in items(client, sid) if isinstance(item, MediaItem)]


def has_ended(client, sid):
    """Return whether the end of a call has been published."""
    read = entries(client, sid)
    return bool(read) and type(read[-1].items[-1]).__name__ == "EndItem"
