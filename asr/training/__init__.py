"""The parts of training around the loop in `asr.train`, and run folders made from other runs."""
