"""The lab: nodes on one machine, each in namespaces of its own."""
