"""The log: the tutorial's lines or JSON, and how many of them a peer can cause."""
