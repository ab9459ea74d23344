"""Every corpus that can be prepared: one module and one line here for each."""

from asr.corpora.an4 import AN4
from asr.corpora.annotations import ANNOTATIONS
from asr.corpora.common import Corpus
from asr.corpora.commonvoice import COMMONVOICE
from asr.corpora.csv_table import CSV
from asr.corpora.digits import DIGITS
from asr.corpora.kaldi import KALDI
from asr.corpora.librispeech import LIBRISPEECH
from asr.corpora.ljspeech import LJSPEECH
from asr.corpora.speechocean import SPEECHOCEAN
from asr.corpora.subtitles import SUBTITLES
from asr.corpora.texts import TEXTS
from asr.corpora.yesno import YESNO

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        AN4,
        YESNO,
        DIGITS,
        LIBRISPEECH,
        LJSPEECH,
        SPEECHOCEAN,
        COMMONVOICE,
        KALDI,
        CSV,
        TEXTS,
        SUBTITLES,
        ANNOTATIONS,
    )
}
