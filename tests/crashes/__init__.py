"""A crash at every step: jobs are stopped wherever they change a file or a database, and run again.

`python -m tests.crashes` stops every job at every step and prints what differs from an undisturbed job.
"""
