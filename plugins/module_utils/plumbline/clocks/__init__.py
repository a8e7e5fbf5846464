"""GPU clocks: locking them, proving the lock, and watching them while something else is measured."""
