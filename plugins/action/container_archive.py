"""Shows how far the ``container_archive`` module is with an image: bytes, rate and time left."""

from __future__ import annotations

from ansible.module_utils.plumbline.controller.watched import WatchedAction
from ansible.module_utils.plumbline.serving.image.engine import PROGRESS


class ActionModule(WatchedAction):
    """The action behind ``container_archive:``."""

    def progress_path(self, arguments):
        """Return where the module writes its progress: its own default, where the task gives none."""
        return arguments.get("progress") or PROGRESS
