"""What all packages share: plan, events, EgressInfo, errors, codecs, units; tasks, locks and connections."""
