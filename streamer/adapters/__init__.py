"""Lipstream's characters in other frameworks. Each module needs the extra of its name."""
