"""The defaults of pyctcdecode, under its names; logarithms are natural except for the offset of unknown words."""

UNKNOWN_PER_CHARACTER = -0.5  # natural log; not in pyctcdecode
DEFAULT_ALPHA = 0.5
DEFAULT_BETA = 1.5
DEFAULT_UNK_LOGP_OFFSET = -10.0  # log10
DEFAULT_SCORE_LM_BOUNDARY = True
DEFAULT_BEAM_WIDTH = 100
DEFAULT_PRUNE_LOGP = -10.0
DEFAULT_MIN_TOKEN_LOGP = -5.0
DEFAULT_PRUNE_BEAMS = False
DEFAULT_HOTWORD_WEIGHT = 10.0
