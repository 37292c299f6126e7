"""From trial records to tables, figures and a page. Never torch or Ray."""
