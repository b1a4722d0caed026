"""What is claimed: a function for each group of tables."""
