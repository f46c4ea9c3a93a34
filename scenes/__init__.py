"""Ready scenes as TOML: where the data comes from, bounds, the method settings that suit it."""
