"""Corpora: one reader for each published layout, and `prepare`, which turns a corpus into manifests."""

from asr.corpora.common import Corpus
from asr.corpora.preparation import is_prepared, prepare
from asr.corpora.registry import CORPORA
from asr.corpora.summary import SUMMARY_FILE, SplitSummary, Summary

__all__ = ["CORPORA", "SUMMARY_FILE", "Corpus", "SplitSummary", "Summary", "is_prepared", "prepare"]
