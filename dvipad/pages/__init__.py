"""Man pages, shell completion and the reference, made from parsers, grammar and node file keys."""
