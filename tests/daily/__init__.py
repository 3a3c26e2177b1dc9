"""A sysadmin's daily life, end to end: page, terminal, Ansible. `make daily`."""
