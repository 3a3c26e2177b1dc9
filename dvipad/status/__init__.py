"""Status objects: figures of applications, and names that follow the preferred server (S1-S5)."""
