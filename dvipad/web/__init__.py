"""`dvipad web`: page, metrics and health over HTTP, in a process that can change nothing."""
