"""Where effects meet the kernel and the network."""
