"""The Markdown files: their links, anchors, paths, code and made tables. `make papers` writes what is made."""
