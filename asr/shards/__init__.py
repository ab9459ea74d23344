"""Audio in tar files of many utterances each: what they hold, the order of an epoch, and how they are written."""
