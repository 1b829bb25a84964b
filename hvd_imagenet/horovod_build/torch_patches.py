"""Patches to Horovod's torch binding: channels_last tensors, and torch's zero_grad."""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_MPI_OPS = "horovod/torch/mpi_ops.py"
_OPTIMIZER = "horovod/torch/optimizer.py"

_DENSE_VIEW = '''
def _dense_view(tensor):
    """A contiguous tensor over the same memory: the tensor itself, or a view with its dimensions permuted.

    Each dimension d of a permuted view is preceded by as many dimensions of size 1 as tell which one it was, so
    that ranks whose layouts differ disagree on the shape, and get an error in place of shuffled elements.
    """
    if tensor.is_contiguous():
        return tensor
    order = sorted((d for d in range(tensor.dim()) if tensor.size(d) > 1), key=tensor.stride, reverse=True)
    rest = [d for d in range(tensor.dim()) if tensor.size(d) <= 1]
    view = tensor.detach().permute(*order, *rest)
    if not view.is_contiguous():
        raise ValueError('Tensor is required to be dense (contiguous in some order of its dimensions): '
                         'got shape %s with strides %s. Pass tensor.contiguous(), or communicate the tensor '
                         'that this one is a slice of.' % (tuple(tensor.shape), tensor.stride()))
    return view.view([size for d in order for size in [1] * d + [tensor.size(d)]])


def _allreduce_function_factory(tensor):
'''

_ALLREDUCE_CALL = """    function = _check_function(_allreduce_function_factory, tensor)
    try:
        handle = getattr(mpi_lib, function)(tensor, output, divisor,
"""
_GROUPED_CALL = """    function = _check_function(_grouped_allreduce_function_factory, tensors[0])
    try:
        handle = getattr(mpi_lib, function)(tensors, outputs, divisor,
"""
_BROADCAST_CALL = """    function = _check_function(_broadcast_function_factory, tensor)
    try:
        handle = getattr(mpi_lib, function)(
            tensor, output, root_rank, name.encode() if name is not None else _NULL,
"""

TORCH_PATCHES = (
    Patch(
        name="torch-channels-last",
        reason=(
            "allreduce and broadcast refuse tensors whose memory is dense but not in the default order (channels_last "
            "weights), and the grouped allreduce checks only the first of its tensors. They now work in place on a "
            "permuted view of the same memory, without a copy."
        ),
        upstream="horovod/horovod#3491",
        edits=(
            Edit(_MPI_OPS, "\ndef _allreduce_function_factory(tensor):\n", _DENSE_VIEW),
            Edit(
                _MPI_OPS,
                _ALLREDUCE_CALL,
                """    tensor_view, output_view = _dense_view(tensor), _dense_view(output)
    function = _check_function(_allreduce_function_factory, tensor_view)
    try:
        handle = getattr(mpi_lib, function)(tensor_view, output_view, divisor,
""",
            ),
            Edit(
                _MPI_OPS,
                _GROUPED_CALL,
                """    tensor_views = [_dense_view(t) for t in tensors]
    output_views = [_dense_view(t) for t in outputs]
    function = _check_function(_grouped_allreduce_function_factory, tensor_views[0])
    try:
        handle = getattr(mpi_lib, function)(tensor_views, output_views, divisor,
""",
            ),
            Edit(
                _MPI_OPS,
                _BROADCAST_CALL,
                """    tensor_view, output_view = _dense_view(tensor), _dense_view(output)
    function = _check_function(_broadcast_function_factory, tensor_view)
    try:
        handle = getattr(mpi_lib, function)(
            tensor_view, output_view, root_rank, name.encode() if name is not None else _NULL,
""",
            ),
            Edit(
                _MPI_OPS,
                "    output = tensor.new(tensor.shape)\n    return _allreduce_async(",
                "    output = torch.empty_like(tensor)\n    return _allreduce_async(",
            ),
            Edit(
                _MPI_OPS,
                "    outputs = [t.new(t.shape) for t in tensors]\n    return _grouped_allreduce_async(",
                "    outputs = [torch.empty_like(t) for t in tensors]\n    return _grouped_allreduce_async(",
            ),
            Edit(
                _MPI_OPS,
                "    output = tensor.new(tensor.shape)\n    return _broadcast_async(",
                "    output = torch.empty_like(tensor)\n    return _broadcast_async(",
            ),
            # A gradient that one rank lacks must have the layout that the other ranks' autograd gives it.
            Edit(
                _OPTIMIZER,
                "            # produce sparse gradients before computing the gradient.\n"
                "            p.grad = p.data.new(p.size()).zero_()\n",
                "            # produce sparse gradients before computing the gradient.\n"
                "            p.grad = torch.zeros_like(p.data)\n",
            ),
        ),
    ),
    Patch(
        name="torch-zero-grad",
        reason="zero_grad of the distributed optimizers takes no argument; torch's takes set_to_none since 1.7.",
        upstream="horovod/horovod#4026",
        edits=(
            Edit(
                _OPTIMIZER,
                "        self._synchronized = False\n"
                "        return super(self.__class__, self).step(closure)\n\n"
                "    def zero_grad(self):\n",
                "        self._synchronized = False\n"
                "        return super(self.__class__, self).step(closure)\n\n"
                "    def zero_grad(self, *args, **kwargs):\n",
            ),
            Edit(
                _OPTIMIZER,
                "        return super(self.__class__, self).zero_grad()\n\n\nclass _DistributedAdasumOptimizer(",
                "        return super(self.__class__, self).zero_grad(*args, **kwargs)\n\n\n"
                "class _DistributedAdasumOptimizer(",
            ),
            Edit(
                _OPTIMIZER,
                "        self._handles.clear()\n        return loss\n\n    def zero_grad(self):\n",
                "        self._handles.clear()\n        return loss\n\n    def zero_grad(self, *args, **kwargs):\n",
            ),
            Edit(
                _OPTIMIZER,
                "        return super(self.__class__, self).zero_grad()\n\n\ndef DistributedOptimizer(",
                "        return super(self.__class__, self).zero_grad(*args, **kwargs)\n\n\ndef DistributedOptimizer(",
            ),
        ),
    ),
)
