"""A catalog run: every part finished exactly once, whatever dies.

`record` and `inputs` say what was asked, and of which files. `engine` is the driver, which knows nothing of what parts hold; `ledger` says
what is finished, and `tally` what is known of its rows; `pieces` finds rows that kill processes; `lock` keeps a second driver out;
`conclusion` makes a catalog of all parts.
"""
