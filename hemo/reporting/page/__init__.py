"""The pages people look at: what they show, as JSON, and its HTML with scripts and styles in one file."""
