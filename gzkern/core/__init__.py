"""What every layer uses: sizes, argument checks, the dropout mask, files, caches, threads and processes."""
