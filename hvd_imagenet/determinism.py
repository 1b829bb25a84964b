"""`--deterministic`: the variables that make every run on as many processes and threads give the same bits.

With one or two processes that is so anyway on a CPU: a + b is b + a. With more of them the order of a sum decides on
its last bit, and Horovod fuses whatever gradients are there when it looks.
"""

from collections.abc import Mapping

# Each gradient is reduced by itself; by an algorithm that does not depend on what else is on its way.
_ALWAYS = {"HOROVOD_FUSION_THRESHOLD": "0", "HOROVOD_AUTOTUNE": "0"}
_UNLESS_SET = {
    # Reduce-scatter and allgather by recursive halving: of few steps for small tensors, of few bytes for large ones.
    "OMPI_MCA_coll_tuned_use_dynamic_rules": "1",
    "OMPI_MCA_coll_tuned_allreduce_algorithm": "6",
    "NCCL_ALGO": "Ring",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
# Components of Open MPI that choose by arrival, or by which processes share memory.
_COMPONENTS = "OMPI_MCA_coll"
_LEFT_OUT = ("acoll", "adapt", "han", "xhc", "sm")


def variables_for(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to set before the job is joined and a framework imported.

    Args:
        environment: of this process; what the user has chosen for MPI, NCCL and cuBLAS stays. Components that
            `launch --allreduce-algorithm` leaves out are left out beside those of this module.

    Returns:
        Names and values.

    Example:
        >>> chosen = variables_for({"NCCL_ALGO": "Tree"})
        >>> chosen["HOROVOD_FUSION_THRESHOLD"], "NCCL_ALGO" in chosen
        ('0', False)
        >>> variables_for({"OMPI_MCA_coll": "^han,ucc"})["OMPI_MCA_coll"]
        '^han,ucc,acoll,adapt,xhc,sm'
    """
    chosen = environment.get(_COMPONENTS, "^")
    components = {}
    if chosen.startswith("^"):  # else a list of those to take
        components[_COMPONENTS] = "^" + ",".join(dict.fromkeys([*filter(None, chosen[1:].split(",")), *_LEFT_OUT]))
    return {**_ALWAYS, **components, **{name: value for name, value in _UNLESS_SET.items() if name not in environment}}
