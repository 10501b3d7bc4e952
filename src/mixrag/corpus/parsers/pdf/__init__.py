"""PDF: glyphs with their places, grouped into rows, columns, tables and paragraphs."""
