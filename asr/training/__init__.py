"""What training consists of, around the loop in `asr.train`; and runs that are made of other runs."""
