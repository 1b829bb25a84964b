"""Tables, figures and a page from run folders; README's tables from benchmarks/results.

It reads what run_folder writes, config.yaml, metrics.csv, iterations.csv and summary.json, and needs no framework.
pandas, matplotlib and jinja2 (the extra `report`) are imported here and nowhere else.
"""
