"""The page: what a browser gets to share and open with. HTML, styles and scripts as they are, without a build step."""
