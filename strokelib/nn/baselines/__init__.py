"""Compared methods, one a file."""
