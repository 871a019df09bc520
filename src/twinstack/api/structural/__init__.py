"""Structural schemas of custom resources: what they say of a value, what a value lacks by them."""
