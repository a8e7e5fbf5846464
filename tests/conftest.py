"""Makes the project's module_utils importable the way Ansible imports them."""

from __future__ import annotations

import sys

import ansible.module_utils
from project import ROOT

ansible.module_utils.__path__.append(str(ROOT / "plugins" / "module_utils"))
sys.path.append(str(ROOT / "library"))
