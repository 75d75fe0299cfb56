"""What Twilio documents: messages, signatures, TwiML, error codes. No I/O."""
