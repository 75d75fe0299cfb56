"""Mu-law audio: the codec, the WAV file, the timeline of a track. No sockets."""
