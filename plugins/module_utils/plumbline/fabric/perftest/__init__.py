"""ib_write_bw of perftest: the run and its output."""
