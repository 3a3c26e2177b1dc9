"""The .deb on a fresh Debian: `make package-test`."""
