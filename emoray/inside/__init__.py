"""Looking inside a trained network: feature maps, filters that are dead, and what of an image it decided by."""
