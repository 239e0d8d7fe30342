"""A request on the wire becomes a Plan, or a refusal that names the field and the reason. No I/O."""
