"""The worker: collectives and pipeline stages that hold across nodes."""

from vllm.distributed.device_communicators import cpu_communicator
from vllm.utils.network_utils import get_ip
from vllm.v1.worker.cpu_worker import CPUWorker

# vLLM's CPU ranks talk through shared memory when all of a group agree on its name, and the stock name does not say on
# which node they are. With the node's address (VLLM_HOST_IP) in it, ranks of several nodes disagree and use Gloo over TCP.
_stock_group_name = cpu_communicator._CPUSHMDistributed.make_group_name


def _group_name(communicator):
    return "%s-%s" % (_stock_group_name(communicator), get_ip().replace(":", "_"))


cpu_communicator._CPUSHMDistributed.make_group_name = staticmethod(_group_name)


class Worker(CPUWorker):
    """The stock CPU worker, whose later pipeline stages also work with ``--enforce-eager``."""

    def load_model(self, *args, **kwargs):
        """Load the model and make the buffers that a later stage receives into.

        The stock runner makes them in its warm-up, which it skips when nothing is compiled.
        """
        loaded = super().load_model(*args, **kwargs)
        from vllm.distributed import get_pp_group  # only known once the groups are made

        runner = self.model_runner
        if not get_pp_group().is_first_rank and getattr(runner, "intermediate_tensors", None) is None:
            runner.intermediate_tensors = runner.model.make_empty_intermediate_tensors(
                batch_size=runner.max_num_tokens, dtype=runner.model_config.dtype, device=runner.device
            )
        return loaded
