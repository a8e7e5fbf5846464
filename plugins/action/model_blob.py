"""Shows how far the ``model_blob`` module's download is: bytes, rate and time left."""

from __future__ import annotations

import os

from ansible.module_utils.plumbline.controller.watched import WatchedAction
from ansible.module_utils.plumbline.model.download import PROGRESS


class ActionModule(WatchedAction):
    """The action behind ``model_blob:``."""

    def progress_path(self, arguments):
        """Return where the module writes its progress."""
        return os.path.join(arguments["path"], PROGRESS)
