"""From a voice to controls: articulation, idle motion, gestures, and the user's motion commands."""
