"""The pure core: inputs in, effects out; no I/O, no clock, no randomness."""
