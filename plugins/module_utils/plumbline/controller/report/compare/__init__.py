"""Runs against runs: what of a run is compared, with which other, and when a difference counts."""
