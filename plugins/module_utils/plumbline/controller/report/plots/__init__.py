"""The report's plots, as SVG and PNG."""
