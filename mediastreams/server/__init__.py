"""Takes calls: handshake, WebSocket, limits, drain; with `python app.py` and under gunicorn."""
