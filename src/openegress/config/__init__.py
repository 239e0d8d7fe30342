"""Typed settings; upstream's YAML is accepted unchanged."""
