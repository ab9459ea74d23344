"""AN4: train on 859 utterances by 67 speakers, choose on 7 others, score the official 130 test utterances."""

import sys

from asr import recipe

if __name__ == "__main__":
    sys.exit(recipe.main(__file__, __doc__, lm_order=3))
