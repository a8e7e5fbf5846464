"""What Plumbline's modules, plugins and report share; a package imports only from the floors below it (.importlinter)."""
