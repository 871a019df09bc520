"""Probes of containers: what they come to (`state`), how they are carried out (`actions`), and when (`prober`)."""
