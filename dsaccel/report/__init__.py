"""Words and pictures: tables, figures, pages."""
