"""Builds the collection ``plumbline.cluster`` from the project, which stays as it is. docs/collection.md says what it is for."""
