"""Starting and watching processes: what a launcher says about this process, and argument lists for launchers."""
