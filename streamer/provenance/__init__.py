"""Marks on synthetic video: label, watermark, content credentials."""
