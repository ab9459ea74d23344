"""The commands of `asr`, a file for each family; heavy imports stand inside the functions that run them."""
