"""Fixtures of more than one module's tests."""

from __future__ import annotations

from engine_stand_in import engine

__all__ = ["engine"]
