"""Moved to `streamer.embed`; these names work until 0.3 and warn."""
