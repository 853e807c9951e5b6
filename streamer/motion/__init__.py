"""From a voice to controls: articulation, idle motion, gestures, a user's own moves."""
