"""Feature definitions: the fraud sets, and small ones for other domains."""
