"""The fault matrix: `python -m tests.chaos` (`make chaos`) breaks real clusters, and counts."""
