"""Which videos there are, what they show, and which split each belongs to."""
