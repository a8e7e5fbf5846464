"""The report as plain data: what report.md and report.html both show, in order."""
