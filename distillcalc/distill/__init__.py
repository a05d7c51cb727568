"""Carrying the decision out: label with the teacher, filter, split, export, and have students trained."""
