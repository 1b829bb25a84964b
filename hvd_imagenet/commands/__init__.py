"""The subcommands: options of each, and the call into the package that does the work."""
