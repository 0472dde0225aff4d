"""Measures speed, memory and how good a search is; nothing here is imported by the product."""
