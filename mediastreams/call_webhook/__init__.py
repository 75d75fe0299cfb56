"""CALL_WEBHOOK: posts the account of each stream that has ended, from a spool on disk, until it is taken."""
