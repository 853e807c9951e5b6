"""Where a session's frames go beside its viewers: recordings, RTMP, SRT."""
