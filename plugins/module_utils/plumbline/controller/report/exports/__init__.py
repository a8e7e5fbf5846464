"""The report's facts and verdicts for other programs: JSON lines and Prometheus' text format. Standard library only."""
