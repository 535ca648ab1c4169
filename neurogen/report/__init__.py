"""What was measured, as people read it: results, tables, plots."""
