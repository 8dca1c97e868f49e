"""A crash at every step: jobs are stopped wherever they change a file or a database, and run again.

`python -m tests.crashes` stops jobs at every step, `python -m tests.crashes.campaign` kills them at random moments, and
`python -m tests.crashes.nights` kills five nights in a row. All three print what differs from an undisturbed job.

`boxes` is the sandbox, and its contents as a value; `forks` runs commands in forked children; `jobs` has the commands
and their setups; `recorder` sees each change before it is made, as a numbered step, and takes a snapshot or raises an
error there; `state` says what must be equal; `trials` puts them together. No code of the package knows of it.

A job is run once, with a snapshot of the sandbox at each step: exactly what a kill at that moment leaves, with what the
process has not flushed lost. Snapshots that are equal are tried once. In further ones the file that was written last
is half there, or empty. Each is put back at its place, the same command runs again undisturbed, and what is there then
must be what is there after one undisturbed job (or after two, where the job had ended before the kill).
"""
