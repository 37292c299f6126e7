"""Trial records to tables, figures and an HTML page, without torch and Ray."""
