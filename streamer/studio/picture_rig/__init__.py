"""Any picture of a face talks, with its own pixels: a face mesh fitted to it moves them."""
