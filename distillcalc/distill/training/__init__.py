"""Students trained on labelled records: what they learn from, how they are trained, and how good they are."""
