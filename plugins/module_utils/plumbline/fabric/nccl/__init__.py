"""nccl-tests: the command, the run, its output and what it proves."""
