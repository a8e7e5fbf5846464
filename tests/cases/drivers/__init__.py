"""One module for each kind of case: it reads the parts as the project does and returns what was found."""
