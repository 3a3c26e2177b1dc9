"""The commands: `dvipad` (the daemon) and `dvipactl` (the operator)."""
