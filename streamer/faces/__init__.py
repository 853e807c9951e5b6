"""From what a user uploads to a face that can be animated: decoding, finding, fitting, packs of pictures, clips."""
