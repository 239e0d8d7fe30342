"""The process that records one egress: it gets a Plan over its inherited socket and answers with events.

It starts before there is a request, gets ready (imports, perhaps a browser), waits for its plan, records,
finishes its outputs and exits. It knows nothing of the API, the bus or the store.
"""
