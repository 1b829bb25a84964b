"""What a cluster will do before there is one: cost models of an allreduce, the timeline of a step, and predictions."""
