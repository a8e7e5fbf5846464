"""One serving benchmark: the client, its result, the server's counters and the verdict."""
