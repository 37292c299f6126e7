"""Write images to Parquet shards and read them back."""
