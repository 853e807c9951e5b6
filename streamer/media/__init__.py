"""From frames to packets: encoding, lip sync, rate control, containers."""
