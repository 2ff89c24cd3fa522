"""Nets that come from other frameworks and go to them."""
