"""Reads the configuration into typed settings. Upstream's YAML is accepted unchanged."""
