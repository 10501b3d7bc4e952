"""HTML: the tree that browsers build, written as headings, paragraphs, lists and tables."""
