"""What consumes a stream, and the threads in which it does: recording, level meter, your own."""
