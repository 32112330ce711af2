"""The synthetic twin: the paper's seven partitions with drawn faces, motion and labels."""
