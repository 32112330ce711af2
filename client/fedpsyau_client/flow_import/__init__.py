"""Optical flow that somebody else computed, as images or arrays, into feature stores."""
