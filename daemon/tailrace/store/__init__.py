"""What lists and look-ups need, kept beside the run folders and rebuilt from them."""
