"""Generated messages of package rpc and of psrpc's envelopes; see proto/*.proto."""
