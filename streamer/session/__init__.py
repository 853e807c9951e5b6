"""One conversation: its inputs, its commands, its viewers."""
