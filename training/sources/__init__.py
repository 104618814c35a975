"""Where rows come from: tables in memory, Parquet shards on disk, folders of pictures, arrays."""
