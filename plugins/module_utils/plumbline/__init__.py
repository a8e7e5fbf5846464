"""Plumbline's node-side library: standard library only, Python 3.9 or newer."""
