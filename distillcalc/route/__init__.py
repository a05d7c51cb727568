"""Student or teacher, request by request: scores, calibration, curves, a router and its upkeep."""
