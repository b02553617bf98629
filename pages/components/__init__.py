"""What pages are made of: frame, filters, figures, cards, tables, states and the way numbers are written."""
