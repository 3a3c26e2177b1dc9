"""The mesh protocol without I/O: frames, messages, sessions, who dials whom."""
