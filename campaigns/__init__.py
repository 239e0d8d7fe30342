"""Long proofs against ground truth; each is a command that writes a page of docs/: network, kills."""
