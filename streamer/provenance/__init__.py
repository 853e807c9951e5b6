"""Marks synthetic video: visible label, watermark, content credentials."""
