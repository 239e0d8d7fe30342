"""The worker: takes requests off the bus, runs one handler process per egress, and keeps the records up to
date."""
