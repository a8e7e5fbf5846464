"""Brings pip into the environment whose Python runs this, from that Python itself; takes the arguments of get-pip.py."""

from __future__ import annotations

import subprocess
import sys

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
packages = [item for item in sys.argv[1:] if not item.startswith("-")]
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *(packages or ["pip==24.2"])], check=True)
