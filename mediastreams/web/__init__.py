"""The routes that answer over HTTP: TwiML, statusCallback, health, metrics."""
