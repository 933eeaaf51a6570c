"""What the `analyze` pipeline makes of its analyzers: findings, SARIF, a page.

``tailrace-report read TOOL`` turns what an analyzer printed into one typed
file; ``tailrace-report write`` merges those files into ``report.html`` and
``findings.sarif``. Everything read here was written by a stranger, or by a
program that read what a stranger wrote.
"""
