"""Servers that speak like the real ones, on loopback."""
