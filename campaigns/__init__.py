"""Long proofs against ground truth, each a command that writes a page of docs/: network, kills."""
