"""Pictures from which a person sees whether preparation is right."""
