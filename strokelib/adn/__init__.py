"""Ni et al. 2022: acute stroke on plain CT by telling pathological from anatomical asymmetry (AISD)."""
