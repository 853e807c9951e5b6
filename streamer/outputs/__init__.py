"""Outputs of a session besides its viewers: recordings, RTMP, SRT."""
