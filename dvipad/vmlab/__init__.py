"""A virtual machine with a stock Debian kernel, in which end-to-end tests run."""
