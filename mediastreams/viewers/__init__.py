"""The live page: who may look, its routes, the calls it shows, and its WebSocket."""
