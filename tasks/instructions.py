"""Tasks of the instruction half: self-instruct and the split over the training steps."""
