"""From clips to features: frames, face landmarks, alignment, optical flow, feature store."""
