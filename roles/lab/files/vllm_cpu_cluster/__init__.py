"""vLLM out-of-tree platform plugin: the stock CPU platform, across several nodes with Ray.

Stock vLLM refuses the Ray executor on CPU because its CPU platform names no Ray resource. The lab has no GPU, and yet
it has to run the layouts that span nodes; this plugin adds what is missing and leaves the computation alone.
Select or leave it out with ``VLLM_PLUGINS``. Start Ray with ``--num-gpus=<ranks this node takes>``.
"""


def register():
    """Return the platform class, as vLLM's entry point group ``vllm.platform_plugins`` asks for it."""
    return "vllm_cpu_cluster.platform.CpuClusterPlatform"
