"""The report of one run, from the files in its folder to Markdown, HTML and plots."""
