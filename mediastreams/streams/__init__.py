"""One stream: the order of its messages, its playback, its transcripts. No I/O."""
