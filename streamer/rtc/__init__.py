"""WebRTC: everything that touches aiortc."""
