"""The report of many runs: one page of HTML, or of Markdown, about which system to take and why."""
