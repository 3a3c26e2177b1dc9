"""Profile (VIPADYNAMIC grammar) and node file (YAML) to a frozen model."""
