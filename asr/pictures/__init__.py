"""Pictures and pages: what `asr inspect` writes. Needs matplotlib, librosa and scipy (the extra `inspect`)."""
