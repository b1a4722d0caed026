"""TOPRPolicy: off-policy learning from logged decisions."""
