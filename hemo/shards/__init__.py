"""Images to Parquet and back."""
