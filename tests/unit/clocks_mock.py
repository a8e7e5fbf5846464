"""A folder with mock-nvidia-smi in it, for the tests of clocks: its state, its moods and what was asked of it."""

from __future__ import annotations

import json
import os
import shutil
import time

from ansible.module_utils.plumbline.clocks import query as clocks_query
from ansible.module_utils.plumbline.clocks import record as clocks_record
from project import ROOT

MOCK = ROOT / "tests" / "mocks" / "clocks" / "mock-nvidia-smi"


class MockGpus:
    """Two GPUs at 345 MHz that are not there."""

    def __init__(self, folder):
        self.folder = folder
        self.tool = folder / "mock-nvidia-smi"
        shutil.copy(MOCK, self.tool)
        self.state_dir = folder / "run"
        self.record = self.state_dir / "gpu_clocks.json"
        self.nhc_log = folder / "nhc.log"

    def mood(self, **how):
        """Make the mock misbehave, or behave again."""
        fresh = self.folder / "mood.json.new"
        fresh.write_text(json.dumps(how))
        os.replace(fresh, self.folder / "mood.json")  # the mock may be reading it right now

    def lock(self, mhz=None):
        """Lock or unlock behind everybody's back."""
        if mhz is None:
            (self.folder / "lock").unlink(missing_ok=True)
        else:
            (self.folder / "lock").write_text(str(mhz))

    def lock_by_us(self, mhz):
        """Lock, and keep the record that gpu_clocks keeps."""
        self.lock(mhz)
        seen = clocks_query.Reader(str(self.tool)).read()
        clocks_record.write(str(self.state_dir), clocks_record.make(seen, mhz, 1, {}, [str(self.nhc_log)]))

    def window(self, **more):
        """Return the argument ``clock_window`` of a module that is to see these GPUs."""
        return {"interval_s": 0.1, "nvidia_smi": str(self.tool), "state_dir": str(self.state_dir), **more}

    def work(self, seconds=0.5):
        """Be in use for some time."""
        self.mood(use=97, used_mib=4000, active="0x0")
        time.sleep(seconds)
        self.mood()

    def calls(self):
        """Return the calls that change something, since the last time."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith(("--query-gpu", "-q -x"))]
