"""What each kind of failure is known by, how much it explains, and what to do about it.

The weight of a candidate says how far from the cause it can be: what was certainly first (a kernel kills), an error of its own, a death
without words, a wait that ended, what another process's end brings about, and a pointer to other words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Callable, NamedTuple

CERTAIN, ERROR, HINT, DEATH, HANG, VAGUE, TIMEOUT, CONSEQUENCE, ECHO = 90, 80, 70, 60, 50, 40, 30, 20, 10

FABRIC = "run `ansible-playbook site.yml --tags fabric`"
HEALTH = "run `ansible-playbook site.yml --tags health`"


class Kind(NamedTuple):
    """One kind: ``pattern`` finds it, ``remedy`` is a sentence or makes one of the match, ``weight`` what an error of it explains.

    ``plain`` kinds are known without a traceback, ``hint`` kinds even from a warning, where something else failed as well.
    """

    name: str
    pattern: re.Pattern
    weight: int
    remedy: str | Callable
    plain: bool = False
    hint: bool = False


def _free_memory(match):
    free, total, share, wanted = (match.groupdict().get(key) for key in ("free", "total", "share", "wanted"))
    if not free:
        return "end what else holds the GPU's memory (`nvidia-smi`), or lower --gpu-memory-utilization"
    return "%s of %s GiB are free and %s GiB (%s) are wanted: end what else holds the GPU's memory (`nvidia-smi`), or lower %s" % (
        free, total, wanted, share, "--gpu-memory-utilization",
    )  # fmt: skip


def _cache(match):
    text = match.string
    wanted = re.search(r"\(?([\d.]+) GiB KV cache is needed", text)
    given = re.search(r"available KV cache memory \(([\d.]+) GiB", text)
    length = re.search(r"estimated maximum model length is ([\d,]+)", text)
    said = "%s GiB are needed and %s GiB are left: " % (wanted.group(1), given.group(1)) if wanted and given else ""
    fits = "--max-model-len %s fits" % length.group(1) if length else "lower --max-model-len"
    return "%s%s, or raise --gpu-memory-utilization or the number of GPUs" % (said, fits)


def _out_of_memory(match):
    text = match.string
    tried = re.search(r"Tried to allocate ([\d.]+ [KMGT]i?B)", text)
    total = re.search(r"total capacity of ([\d.]+ [KMGT]i?B)", text)
    free = re.search(r"of which ([\d.]+ [KMGT]i?B) is free", text)
    said = "%s more did not fit" % tried.group(1) if tried else "the GPU's memory is full"
    said += " into %s%s" % (total.group(1), ", %s free" % free.group(1) if free else "") if total else ""
    return said + ": lower --gpu-memory-utilization, --max-num-seqs or --max-model-len, use more GPUs, or end what else holds the memory"


def _port(match):
    port = re.search(r"(?:port: |:|', )(\d{2,5})\b(?!:)", match.string)
    return "end what listens on %s (`ss -ltnp`), or choose another port" % ("port " + port.group(1) if port else "that port")


def _ray_memory(match):
    used = re.search(r"was ([\d.]+ ?[GM]i?B) / ([\d.]+ ?[GM]i?B)", match.string)
    said = "%s of %s were used: " % used.groups() if used else ""
    return (
        said
        + "the node's memory is too small for what runs on it: end other programs, load with fewer ranks, or raise the container's limit"
    )


def _shm(_match):
    return "give the container more shared memory (--shm-size=16g, or --ipc host) and look at `df -h /dev/shm`"


def _kind(name, pattern, remedy, weight=ERROR, plain=False, hint=False):
    return Kind(name, re.compile(pattern), weight, remedy, plain, hint)


_KILLED = "the kernel killed it for want of memory: see `dmesg` on the node, raise the container's memory limit, or load with fewer ranks"
_LIBRARY = "a library does not fit this environment: install vLLM and torch of one build, or use vLLM's image"
_TOKEN = "accept the model's terms on the hub, and give a token of that account (HF_TOKEN), or sync a local copy"
_COMPILER = (
    "install the compiler and the headers that it names (gcc, python3-dev, CUDA's nvcc) in the environment, or set CC; "
    "vLLM's image has them"
)
_DRIVER = (
    "the driver is older than this CUDA needs: update the node's driver, or take a build for the CUDA that `nvidia-smi` shows "
    "(or CUDA's forward-compatibility package)"
)
_BUILD = "this build has no code for this GPU: take a vLLM, torch or Triton built for its compute capability"

# The order matters: the first that fits names the kind.
KINDS = (
    # What nothing else can have brought about.
    _kind("ray_memory", r"[1-9]\d* Workers? \(tasks / actors\) killed due to memory pressure|exceeds the memory usage threshold"
          r"|NODE_OUT_OF_MEMORY|due to the node running low on memory", _ray_memory, CERTAIN, True, True),
    _kind("ray_disk", r"OutOfDiskError|Local disk is full"
          r"|file_system_monitor.*over \d+% full", "free the disk that holds Ray's folder (/tmp/ray)",
          CERTAIN),
    _kind("oom_killer", r"[Oo]ut of memory: Kill(?:ed)? process|Memory cgroup out of memory|\boom[-_]kill(?::| event)|OOMKilled"
          r"|invoked oom-killer|oom_reaper: reaped",
          _KILLED, CERTAIN, True, True),
    # Shells and engines that could not start the program.
    _kind("interpreter", r"bad interpreter|cannot execute: required file not found|env: .{1,3}[\w./-]+.{1,3}: No such file or directory",
          "the environment was moved or its Python is gone: make it again where it is used", plain=True),
    _kind("exec_format", r"[Ee]xec format error|cannot execute binary file",
          "the program is built for another machine (`uname -m`): take an image or wheels of this architecture", plain=True),
    _kind("container_gpu", r"could not select device driver|nvidia-container-cli|libnvidia-container"
          r"|unknown or invalid runtime name: nvidia"
          r"|failed to (?:inject|discover) CDI|unresolvable CDI devices",
          "mend NVIDIA's container toolkit on the node (`nvidia-ctk runtime configure`, restart Docker), and see that "
          "`nvidia-smi` answers there",
          CERTAIN, True),
    _kind("docker_daemon", r"Cannot connect to the Docker daemon|permission denied while trying to connect to the [Dd]ocker",
          "start Docker on the node, and let this user into the group docker", plain=True),
    _kind("program", r"command not found|executable file not found|Unknown command|failed to (?:run command|execute) \S+: No such file"
          r"|^(?:\S+: )+(?:(?:line )?\d+: )?(?:\S+: )*not found$|^(?:\S*sh"
          r"|bash): (?:(?:line )?\d+: )?(?:exec: )?\S+: No such file or directory"
          r"|can't open file '|^\S*python[\d.]*: No module named|stat \S+: no such file or directory",
          "the program is not there: check its path and that the environment or image has it",
          plain=True),
    _kind("permission", r"^(?:\S+: )+(?:(?:line )?\d+: )?\S+: (?:cannot execute: )?Permission denied$"
          r"|exec: .*permission denied|PermissionError|failed to run command \S+ ?Permission denied|\[Errno 13\]",
          "give the serving user the right to it: mode, owner, mounts with noexec", plain=True),
    _kind("driver_library", r"lib(?:cuda|nvidia-ml)\.so\S*: cannot open shared object file",
          "the driver's libraries are not visible here: check `nvidia-smi`, and that the container gets GPUs (--gpus all)", plain=True),
    _kind("shared_library", r"error while loading shared libraries|cannot open shared object file|undefined symbol"
          r"|GLIBC(?:XX)?_[\d.]+' not found",
          _LIBRARY, plain=True),
    # Shared memory before disks: both say that no space is left.
    _kind("shm", r"/dev/shm|[Bb]us error|SIGBUS|exit(?:ed with)? ?(?:code|status)\s*:?\s*(?:-7|135)\b"
          r"|': -7[,}]|ncclShm|shared memory segment|psm_\w+"
          r"|posix_fallocate failed|insufficient shared memory"
          r"|unable to (?:open|mmap|allocate) shared memory|object_store_memory.*larger than /dev/shm", _shm, plain=True, hint=True),
    _kind("disk", r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]|not enough (?:free )?disk space",
          "free the disk that it names: caches of models and compiled graphs, /tmp, the logs", plain=True),
    _kind("read_only", r"Read-only file system", "mount the folder writable, or point the caches (HF_HOME, VLLM_CACHE_ROOT) elsewhere",
          plain=True),
    _kind("open_files", r"Too many open files|\[Errno 24\]", "raise `ulimit -n` (LimitNOFILE, --ulimit nofile)", plain=True),
    _kind("memlock", r"ibv_reg_mr\w* failed|Cannot allocate memory.*ibv"
          r"|RLIMIT_MEMLOCK", "raise memlock (--ulimit memlock=-1, --cap-add IPC_LOCK)",
          plain=True, hint=True),
    _kind("host_memory", r"Cannot allocate memory|std::bad_alloc|^MemoryError|DefaultCPUAllocator: (?:can't|not enough)",
          "the node's memory is full: end other programs, load with fewer ranks, or raise the container's limit", plain=True),
    # The GPU and its driver.
    _kind("driver", r"NVIDIA driver on your system is too old|driver version is insufficient|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
          r"|provided PTX was compiled with an unsupported toolchain|forward compatibility was attempted"
          r"|unsatisfied condition: cuda>=", _DRIVER,
          plain=True, hint=True),
    _kind("driver_mismatch", r"Driver/library version mismatch|NVMLError_LibRmVersionMismatch",
          "the driver was updated under a running kernel module: reboot the node", plain=True, hint=True),
    _kind("fabric_manager", r"system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY|Error 802",
          "start NVIDIA's fabric manager of the driver's version, and wait for `Completed` in `nvidia-smi -q`", plain=True, hint=True),
    _kind("architecture", r"no kernel image is available|not defined for option 'gpu-name'|Unsupported gpu architecture"
          r"|is not compatible with the current PyTorch"
          r"|[Uu]nsupported SM|PTXAS error|ptxas (?:fatal|error)|compute capability (?:of )?at least|not supported on this (?:GPU"
          r"|architecture)"
          r"|Minimum (?:compute )?capability", _BUILD, plain=True),
    _kind("resources", r"out of resource: |OutOfResources|too many resources requested for launch",
          "the kernel asks for more than this GPU has: choose another attention backend, or a vLLM whose kernels know this GPU",
          plain=True),
    _kind("free_memory",
          r"Free memory on device(?: \S+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired GPU memory"
          r" utilization \((?P<share>[\d.]+), (?P<wanted>[\d.]+) GiB\))?|Error in memory profiling"
          r"|no free memory on the GPU", _free_memory),
    _kind("kv_cache", r"To serve at least one request|No available memory for the cache blocks"
          r"|larger than the (?:available KV cache memory"
          r"|maximum number of tokens that can be stored)|KV cache is needed", _cache),
    _kind("gpu_memory", r"CUDA out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation|OutOfMemoryError"
          r"|CUBLAS_STATUS_ALLOC_FAILED"
          r"|Cuda failure.*out of memory|CUDA_ERROR_OUT_OF_MEMORY", _out_of_memory, plain=True),
    _kind("one_machine", r"remote_message_queue is not None",
          "to vLLM two of the layout's nodes are one machine, since they share its memory (/dev/shm): give each its own machine, or its own"
          " /dev/shm and GPUs (plumbline_gpus); on one machine serve with nodes: 1"),
    _kind("no_gpu", r"No CUDA GPUs are available|Found no NVIDIA driver|no CUDA-capable device|invalid device ordinal"
          r"|NVMLError_(?:NotFound|DriverNotLoaded"
          r"|Uninitialized|LibraryNotFound)|Torch not compiled with CUDA"
          r"|couldn't communicate with the NVIDIA driver|device >= 0 && device < num_gpus"
          # vLLM 0.17 to 0.32: v1/worker/gpu_worker.py, config/parallel.py.
          r"|local[_ ]rank \S+ is out of bounds|number of visible devices|larger than the number of available GPUs",
          "no such GPU is visible here: check `nvidia-smi`, plumbline_gpus, CUDA_VISIBLE_DEVICES and how the container gets its GPUs",
          plain=True),
    _kind("platform", r"Failed to infer device type|Device string must not be empty|UnspecifiedPlatform",
          "vLLM sees no device here: check `nvidia-smi`, the driver and how the container gets its GPUs", VAGUE),
    _kind("gpu_fault", r"NVRM: Xid|uncorrectable ECC|GPU is lost|fallen off the bus|hardware stack error|CUDA error: unknown error"
          r"|NVMLError_(?:GpuIsLost|Unknown)"
          r"|unspecified launch failure|CUDA_ERROR_ECC|NVLink error|NVML_ERROR_GPU_IS_LOST",
          "the GPU may be at fault: read the kernel log for an XID, and %s" % HEALTH, plain=True),
    _kind("cuda", r"CUDA (?:driver )?error|CUDA Error|Cuda error|CUBLAS_STATUS_|CUDNN_STATUS_|cudaError\w+|CUDA_ERROR_\w+"
          r"|AcceleratorError|NVMLError\w*",
          "the kernel log says whether the GPU is at fault (an XID: %s); without one it is the software: try --enforce-eager and"
          " CUDA_LAUNCH_BLOCKING=1" % HEALTH, plain=True),
    # Between processes and nodes.
    _kind("watchdog", r"[Ww]atchdog caught collective operation timeout|watchdog (?:thread )?got stuck|watchdog hang"
          r"|no heartbeat of its watchdog"
          r"|Heartbeat monitor timed out"
          r"|Timed out waiting \d+ms for (?:recv|send) operation",
          "a collective did not end: find the rank that did not join it, and for the network between the nodes %s" % FABRIC, HANG, True),
    _kind("cuda_in_watchdog", r"watchdog thread terminated with exception",
          "the kernel log says whether the GPU is at fault (an XID: %s); %s" % (HEALTH, FABRIC), HANG, True),
    _kind("port", r"[Aa]ddress already in use|EADDRINUSE|\[Errno 98\]|Ray is trying to start at \S+, but is already running"
          r"|\bports? (?:.* )?(?:is|are) already (?:in use|allocated)",
          _port, plain=True, hint=True),
    _kind("address", r"[Cc]annot assign requested address|\[Errno 99\]|Unable to find address for|Unable to find interface"
          r"|no socket interface found"
          r"|Bootstrap : no socket|looking ?up .*failed to resolve",
          "the address or interface is not one of this node: check ansible_host, VLLM_HOST_IP, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME",
          plain=True, hint=True),
    _kind("hub_gated", r"GatedRepoError|gated repo|Access to model \S+ is restricted|403 Client Error|403 Forbidden", _TOKEN, plain=True),
    _kind("hub_token", r"401 Client Error|Invalid user token|401 Unauthorized|Invalid username or password|Invalid credentials",
          "the hub refuses: give a valid token (HF_TOKEN); without one a private model looks like a missing one"),
    _kind("hub_missing", r"RepositoryNotFoundError|RevisionNotFoundError|404 Client Error|EntryNotFoundError: 404"
          r"|not a local folder and is not a valid model"
          r"|Invalid repository ID or local directory|Repo id must|HFValidationError|does not appear to have a file named"
          r"|Can't load the configuration of"
          r"|[Nn]o model weights|Cannot find any model weights|Error no file named", "check the model's path or name on this node: %s"
          % "`ansible-playbook site.yml --tags model` brings it"),
    _kind("hub_offline", r"We couldn't connect to '?https?://|LocalEntryNotFoundError|HF_HUB_OFFLINE|OfflineModeIsEnabled"
          r"|Cannot reach https?://huggingface"
          r"|Max retries exceeded with url|NameResolutionError|huggingface\.co.*(?:timed out|Connection)",
          "the node does not reach the hub: serve a local folder (`ansible-playbook site.yml --tags model`), or set the proxy"),
    _kind("hub_limit", r"429 Client Error"
          r"|Too Many Requests", "the hub limits this address: wait, give a token (HF_TOKEN), or serve a local folder"),
    _kind("trust_remote_code", r"trust_remote_code|contains custom code which must be executed",
          "read the repository's code, and if you trust it add --trust-remote-code to extra_args"),
    _kind("weights", r"SafetensorError|HeaderTooLarge|MetadataIncompleteBuffer|InvalidHeader|PytorchStreamReader failed|invalid load key"
          r"|is not a valid JSON file"
          r"|UnpicklingError", "a file of the model is cut or no such file (a pointer of Git LFS?): sync it again"),
    _kind("model_unknown", r"does not recognize this architecture|are not supported for now|has no vLLM implementation"
          r"|Model architectures \["
          r"|Unrecognized model in|failed to be inspected"
          r"|Cannot find model module", "this vLLM or Transformers does not know the model: take a newer one"),
    _kind("ranks", r"must be divisible by|is not divisible by|not divisible by tensor parallel|cannot be divided",
          "choose a tensor-parallel size that divides what it names"),
    _kind("max_model_len", r"max_model_len.*(?:greater|larger) than the derived|max_num_batched_tokens.*(?:smaller|less) than",
          "set --max-model-len (or --max-num-batched-tokens) as it says"),
    _kind("placement", r"placement group|number of required GPUs exceeds|No available node types|Current node has no GPU available",
          "Ray has not the GPUs on the nodes that the layout wants: see `ray status`, what else holds them, and each node's ray log",
          plain=False),
    _kind("ray_version", r"Version mismatch: The cluster was started with", "start every Ray node with the same Ray and Python",
          plain=True),
    _kind("ray_cluster", r"Can't find a `?node_ip_address|Failed to connect to GCS|Unable to connect to GCS"
          r"|ray start.* is not running|Could not find any running Ray instance"
          r"|marked dead because the detector|The node (?:IP|with).*(?:died|dead)|Failed to get the system config from raylet"
          r"|Raylet (?:is terminated|died)",
          "see the Ray log of the node that it names, that the head's ports are reachable, and %s" % FABRIC, VAGUE, True),
    _kind("rendezvous", r"Gloo connectFullMesh|Call to connect\b|failed to connect to all addresses|DistNetworkError|DistStoreError"
          r"|client socket has (?:failed"
          r"|timed out)", "the processes did not find each other: see whether one of them ended first, then %s" % FABRIC, HANG,
          True),
    _kind("nccl_network", r"NET/IB(?! : (?:No device found|Using))"
          r"|ibv_\w+|Failed to initialize (?:any )?NET plugin|NET/Socket|NET/OFI|Call to connect"
          r"|No route to host"
          r"|network is unreachable|Network is unreachable"
          r"|failed to connect to all addresses", "the network between the nodes: %s" % FABRIC, plain=False,
          hint=True),
    _kind("nccl", r"NCCL [Ee]rror|DistBackendError|nccl\w*Error"
          r"|Cuda failure", "set NCCL_DEBUG=INFO for NCCL's own words, and %s" % FABRIC),
    _kind("compiler", r"Failed to find C compiler|fatal error: \S+: No such file|cannot find -l\w+|Could not find nvcc"
          r"|nvcc: not found|CUDA_HOME environment variable"
          r"|ninja: (?:error|build stopped)|Ninja is required|InvalidCxxCompiler|No working C\+\+ compiler"
          r"|error: command '?\S*(?:gcc|nvcc|g\+\+)|nvcc fatal"
          r"|ld returned \d+ exit status", _COMPILER, plain=True),
    _kind("docker", r"^(?:docker: )?Error response from daemon|manifest unknown|^docker: |OCI runtime \w+ failed"
          r"|^Error: No such container",
          "see the engine's words: `docker ps -a` and `journalctl -u docker` on the node", plain=True),
    _kind("option", r"error: (?:unrecognized arguments|argument |the following arguments|ambiguous option|one of the arguments"
          r"|expected|invalid choice)"
          r"|^Error: (?:No such option|Invalid value|Missing|Got unexpected)|unknown (?:shorthand )?flag|No such option",
          "mend extra_args or the layout's own: `vllm serve --help=all` of that version lists what it takes", plain=True),
    _kind("module", r"No module named|ModuleNotFoundError|ImportError|cannot import name|Failed to import",
          "the environment lacks it, or its versions do not fit: install it there, or use vLLM's image"),
    # Deaths that say how and not why.
    _kind("segfault", r"[Ss]egfault encountered|[Ss]egmentation fault|SIGSEGV|double free|free\(\): invalid|malloc\(\): "
          r"|corrupted size|realloc\(\): invalid"
          r"|munmap_chunk|stack smashing|exit(?:ed with)? ?(?:code|status)\s*:?\s*(?:-11|139)\b"
          r"|': -11[,}]", "read the frames below that line and the kernel log on that node (an XID, the library that crashed)",
          plain=True),
    _kind("instruction", r"Illegal instruction|SIGILL|exit(?:ed with)? ?(?:code|status)\s*:?\s*(?:-4|132)\b"
          r"|': -4[,}]", "the build uses instructions that this CPU has not: take another build", plain=True),
    _kind("killed", r"^(?:\S+: line \d+: +\d+ )?Killed(?: |$)|exit(?:ed with)? ?(?:code|status):? ?(?:-9|137)\b|': -9[,}]|SIGKILL"
          r"|[Ss]ignal 9\b",
          "killed from outside, mostly for want of memory: see `dmesg` on the node for the OOM killer", DEATH, True),
    _kind("panic", r"PanicException"
          r"|^thread '.*' panicked at", "a bug or a file that it cannot read: see the words, and take another version", plain=True),
    _kind("abort", r"SIGABRT|^Aborted|Fatal Python error: Aborted|terminate called (?:without"
          r"|recursively)", "read what stands above that line", CONSEQUENCE + 6, True),
    _kind("python_fatal", r"^Fatal Python error", "read the frames below that line", plain=True),
    _kind("rpc", r"RPC call to \S+ timed out|No available shared memory broadcast block|execute_model timed out",
          "a worker hangs: see what each of them did last, the GPUs' utilization, and %s" % FABRIC, TIMEOUT, False, True),
    _kind("died", r"died unexpectedly|[Ee]ngine process \(pid \d+\) died"
          r"|Engine process failed to start", "see that worker's last lines and `dmesg` on its node", CONSEQUENCE + 5),
    _kind("lost", r"worker process has died|Worker exit type"
          r"|unexpected system error", "see the logs of that worker and `dmesg` on its node", CONSEQUENCE),
    _kind("stopped", r"KeyboardInterrupt|SystemExit|CancelledError|SIGTERM"
          r"|SIGINT", "it was told to stop: see what ended it", CONSEQUENCE - 5),
    _kind("configuration", r"validation errors? for", "mend the option that it names"),
)  # fmt: skip

_PLAIN = tuple(kind for kind in KINDS if kind.plain or kind.name in ("died", "lost"))
_HINTS = tuple(kind for kind in KINDS if kind.hint)

# What is said of a failure elsewhere: never its cause.
_ECHO = re.compile(
    r"Engine core initialization failed|[Ss]ee root cause above|EngineDeadError|EngineGenerateError|EngineCore encountered an issue"
    r"|[Ss]ee (?:the )?stack ?trace"
    r"|WorkerProc initialization failed|[Ss]tack ?trace (?:\(?above\)? )?(?:above )?for (?:the ?)?(?:actual ?cause|root cause)"
    r"|Inspect the stacktrace"
    r"|Background loop (?:has errored|is not running|is stopped)|ActorDiedError|ActorUnavailableError|ActorDied\b|RayTaskError"
    r"|[Ff]ailed core proc|API server process.*(?:died|exited)|ProcessRaisedException|ChildFailedError|WorkerCrashedError"
    r"|process was? ?terminated|Executor failed|Engine process failed to start|Task finished unexpectedly"
)
# An error, but most often because another process ended first.
_CONSEQUENCE = re.compile(
    r"[Cc]losed by (?:remote )?peer|reset by peer|[Bb]roken pipe|^EOFError|[Cc]onnection (?:was )?closed|remote process exited"
    r"|ncclRemoteError"
    r"|recvValue failed|sendBytes failed|recvBytes|\bsocketPoll|TCPStore server has shut down|should dump. flag|RuntimeError: cancelled"
    r"|[Pp]rocess group has (?:been )?(?:aborted|shut down)|NCCL communicator was aborted|BrokenProcessPool|ConnectionResetError"
    r"|ConnectionRefusedError"
    r"|BrokenPipeError|IncompleteReadError|QueueShutDown|Received a dump signal|Detected exception in another rank|ClosedResourceError"
    r"|[Ss]ome NCCL operations have failed|taking the entire process down|Socket (?:operation|closed)|ncclInProgress|StreamClosedError"
)
_TIMEOUT = re.compile(r"[Tt]imed? ?out|TimeoutError|Timeout\b|DEADLINE_EXCEEDED|Did not receive response")
# Says that something failed and leaves out what.
_VAGUE = re.compile(
    r"CalledProcessError|ExceptionGroup|non-zero exit status|^(?:queue\.Empty|Empty)$|subprocess failed|Failed to run|build stopped"
)


class Meaning(NamedTuple):
    """What a candidate's words come to: ``kind`` is "" for an error that no kind knows, ``at`` where in the text it was known."""

    kind: str
    weight: int
    remedy: str
    at: int


def _remedy(kind, match):
    return kind.remedy if isinstance(kind.remedy, str) else kind.remedy(match)


def _known(text, among=KINDS):
    for kind in among:
        match = kind.pattern.search(text)
        if match:
            return kind, match
    return None, None


@lru_cache(maxsize=4096)  # a failing server repeats itself
def of_error(text):
    """Return the :class:`Meaning` of an exception's or a dying process's whole ``text``."""
    kind, match = _known(text)
    name, remedy, at = (kind.name, _remedy(kind, match), match.start()) if kind else ("", "", 0)
    weight = kind.weight if kind else ERROR
    if _ECHO.search(text):
        # An echo that quotes the error is more than one that does not.
        weight = ECHO + (5 if kind and kind.name not in ("died", "lost", "abort", "stopped") else 0)
    elif weight < CERTAIN and _CONSEQUENCE.search(text):
        weight = CONSEQUENCE
    elif (not kind or kind.name in ("nccl", "nccl_network", "rendezvous", "cuda_in_watchdog", "address")) and _TIMEOUT.search(text):
        weight = HANG if kind and kind.name == "cuda_in_watchdog" else TIMEOUT
    elif not kind and _VAGUE.search(text):
        weight = VAGUE
    return Meaning(name, weight, remedy, at)


@lru_cache(maxsize=4096)
def of_line(text):
    """Return the :class:`Meaning` of a line that is no exception, None where it is no candidate."""
    kind, _match = _known(text, _PLAIN)
    if kind is None or re.search(r"0 Workers \(tasks / actors\) killed due to memory pressure.*\b0 Workers crashed", text):
        return None
    return of_error(text)


@lru_cache(maxsize=4096)
def of_hint(text):
    """Return the :class:`Meaning` of a warning's line that may explain another failure, None where it explains none."""
    kind, match = _known(text, _HINTS)
    if kind is None:
        return None
    weight = HINT if kind.weight >= ERROR and kind.name not in ("port", "nccl_network", "address") else CONSEQUENCE + 1
    return Meaning(kind.name, min(kind.weight, weight), _remedy(kind, match), match.start())
