"""Datasets: building tensor files from recordings, and streaming them into batches."""
