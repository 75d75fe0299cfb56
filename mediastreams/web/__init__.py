"""Answers people and machines over HTTP: TwiML, statusCallback, health, metrics."""
