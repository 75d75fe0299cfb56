"""Calls on Redis Streams: media servers publish them, workers on any machine consume them."""
