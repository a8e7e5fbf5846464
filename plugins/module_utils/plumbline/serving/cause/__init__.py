"""Why a server failed, in the words of its own logs: every candidate is collected, then ranked.

A failing vLLM says it many times: the process that met the error first, then every process that waited for it. ``lines`` reads what a
line carries before its words, ``candidates`` finds all that may be a cause, ``kinds`` knows what each one means and what to do,
``ranking`` puts them in order.
"""

from __future__ import annotations

from .lines import bare
from .ranking import LIMIT, Cause, causes, causes_of_logs, root_cause, told

__all__ = ["LIMIT", "Cause", "bare", "causes", "causes_of_logs", "root_cause", "told"]
