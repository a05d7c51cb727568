"""Hosted fine-tuning against a server on loopback."""
