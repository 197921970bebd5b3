"""The pages: of each, what shows and what changes something are classes of their own."""
