"""Results for people: model cards, tables, pages."""
