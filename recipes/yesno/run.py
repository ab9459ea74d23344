"""yesno: 60 recordings of eight Hebrew words each, one speaker; train on 27, watch 3 others, score 30."""

import sys

from asr import recipe

if __name__ == "__main__":
    sys.exit(recipe.main(__file__, __doc__))
