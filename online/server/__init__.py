"""The feature server and its client."""
