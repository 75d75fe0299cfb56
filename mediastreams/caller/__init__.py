"""A simulated Twilio: `python -m mediastreams.caller`."""
