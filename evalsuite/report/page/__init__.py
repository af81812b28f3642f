"""The self-contained page: its template, style, script and plots."""
