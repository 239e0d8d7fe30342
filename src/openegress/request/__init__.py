"""Turns a request on the wire into a Plan, or into a refusal that names the field and the reason. No I/O."""
