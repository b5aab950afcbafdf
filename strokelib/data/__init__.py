"""Data: shipped real parts, embedded cohorts, reading, preparation and loading."""
