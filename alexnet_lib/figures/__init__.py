"""Every figure: arrays or tables in, a matplotlib figure out."""
