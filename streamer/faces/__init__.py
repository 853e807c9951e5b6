"""From an upload to a face that can be animated: decoding, face detection, fitting, picture packs, clips."""
