"""One self-contained HTML file about one evaluated training run: plots, thumbnails and the page."""
