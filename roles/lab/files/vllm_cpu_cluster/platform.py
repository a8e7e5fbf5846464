"""The platform: CPU, with a Ray resource to schedule by."""

import os

from vllm.platforms.cpu import CpuPlatform


class CpuClusterPlatform(CpuPlatform):
    """The stock CPU platform with three additions."""

    # vLLM asks Ray for one of these per rank. "GPU" is the only resource that `ray start` counts by an option of its
    # own (--num-gpus) and that vLLM's placement code treats as one slot per rank; here it means a slot, not a device.
    ray_device_key = "GPU"

    @classmethod
    def check_and_update_config(cls, vllm_config):
        """Choose our worker unless the user chose one, then let the stock platform do its checks."""
        parallel = vllm_config.parallel_config
        if parallel.worker_cls == "auto":
            parallel.worker_cls = "vllm_cpu_cluster.worker.Worker"
        # The stock platform lets every process import vLLM anew, so that each can pin its threads first. Who does not pin may ask
        # for forks by vLLM's own variable, which the stock platform overwrites.
        asked = os.environ.get("VLLM_WORKER_MULTIPROC_METHOD")
        super().check_and_update_config(vllm_config)
        if asked == "fork":
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = asked
