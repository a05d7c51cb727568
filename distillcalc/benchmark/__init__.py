"""Measure a student or an endpoint, and hold the estimate against the measurement."""
