"""The page for browsers: HTML, CSS and JavaScript that share and open texts, without a build step."""
