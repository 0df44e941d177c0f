"""Parity, simulated logs and reports."""
