"""`make bench`: dvipad against what a user would pick instead, in one run, on the same work."""
