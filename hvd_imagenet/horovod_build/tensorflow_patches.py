"""Patches to `horovod.tensorflow` for Keras 3.

`horovod.tensorflow.keras` (its optimizer and callbacks) is left as it is: it needs more than small edits, and
hvd_imagenet.keras replaces it.
"""

from hvd_imagenet.horovod_build.patch import Edit, Patch

_INIT = "horovod/tensorflow/__init__.py"
_UTIL = "horovod/tensorflow/util.py"
_FUNCTIONS = "horovod/tensorflow/functions.py"
_AGGREGATION = "horovod/tensorflow/gradient_aggregation_eager.py"
_SYNC_BN = "horovod/tensorflow/sync_batch_norm.py"

TENSORFLOW_PATCHES = (
    Patch(
        name="keras-3-variables",
        reason=(
            "A Keras 3 variable is no tf.Variable: it has no ref(), its name is not unique ('kernel' in every "
            "layer), and tf.function makes a tensor of it. Horovod works on the tf.Variable within it, whose name "
            "is the path."
        ),
        upstream="horovod/horovod#4290",
        edits=(
            Edit(
                _UTIL,
                "def vars_to_refs(vars):\n",
                "def tensorflow_variable(var):\n"
                '    """The tf.Variable within a variable of Keras 3; anything else as it is."""\n'
                "    return var._value if not hasattr(var, 'ref') and hasattr(var, '_value') else var\n\n\n"
                "def vars_to_refs(vars):\n",
            ),
            Edit(_UTIL, "    return vars.ref()\n", "    return tensorflow_variable(vars).ref()\n"),
            Edit(
                _INIT,
                "_cache, vars_to_refs, refs_to_vars\n",
                "_cache, vars_to_refs, refs_to_vars, tensorflow_variable\n",
            ),
            Edit(
                _INIT,
                "                self._local_sources.add(source.ref())\n",
                "                self._local_sources.add(tensorflow_variable(source).ref())\n",
            ),
            Edit(
                _INIT,
                "            gradients = super(self.__class__, self).gradient(target, sources, output_gradients)\n\n"
                "            # Collect source/grad pairs requiring reduction",
                "            gradients = super(self.__class__, self).gradient(target, sources, output_gradients)\n"
                "            sources = [tensorflow_variable(s) for s in sources]\n\n"
                "            # Collect source/grad pairs requiring reduction",
            ),
            Edit(
                _INIT,
                "is_local_source = s.ref() in self._local_sources if _IS_TF2",
                "is_local_source = tensorflow_variable(s).ref() in self._local_sources if _IS_TF2",
            ),
            Edit(
                _AGGREGATION,
                "import tensorflow as tf\n",
                "import tensorflow as tf\nfrom horovod.tensorflow.util import tensorflow_variable\n",
            ),
            Edit(
                _AGGREGATION,
                "            self._local_vars.add(var.ref())\n",
                "            self._local_vars.add(tensorflow_variable(var).ref())\n",
            ),
            Edit(
                _AGGREGATION,
                "        def __filtered_reduce_grads(grads, vars):\n",
                "        vars = [tensorflow_variable(var) for var in vars]\n\n"
                "        def __filtered_reduce_grads(grads, vars):\n",
            ),
            Edit(
                _FUNCTIONS,
                "import _cache, _executing_eagerly, _make_subgraph\n",
                "import _cache, _executing_eagerly, _make_subgraph, tensorflow_variable\n",
            ),
            Edit(
                _FUNCTIONS,
                "    if inplace:\n        vars_by_device = {}\n",
                "    variables = [tensorflow_variable(var) for var in variables]\n"
                "    if inplace:\n        vars_by_device = {}\n",
            ),
        ),
    ),
    Patch(
        name="keras-3-sync-batch-normalization",
        reason=(
            "Keras 3's BatchNormalization has no argument `fused`, its _moments takes other arguments, and its call "
            "must name the inputs; the call here was for TensorFlow 1 alone."
        ),
        upstream="horovod/horovod#4290",
        edits=(
            Edit(
                _SYNC_BN,
                "    super(SyncBatchNormalization, self).__init__(fused=fused, **kwargs)\n",
                "    if not tf.keras.__version__.startswith('3.'):\n"
                "      kwargs['fused'] = fused\n"
                "    super(SyncBatchNormalization, self).__init__(**kwargs)\n",
            ),
            Edit(
                _SYNC_BN,
                "  def _moments(self, inputs, reduction_axes, keep_dims, **kwargs):\n",
                "  def _moments(self, *args, **kwargs):\n",
            ),
            Edit(
                _SYNC_BN,
                "super(SyncBatchNormalization, self)._moments(\n"
                "      inputs, reduction_axes, keep_dims=keep_dims, **kwargs)\n",
                "super(SyncBatchNormalization, self)._moments(*args, **kwargs)\n",
            ),
            Edit(
                _SYNC_BN,
                "  def call(self, *args, **kwargs):\n"
                "    outputs = super(SyncBatchNormalization, self).call(*args, **kwargs)\n"
                "    try:\n"
                "      # A temporary hack for TF1 compatibility with Keras batch norm.\n"
                "      # Ops are added to tf.GraphKeys.UPDATE_OPS manually to mimic\n"
                "      # behavior of TF1 batch norm layer for use in control dependencies.\n"
                "      for u in self.updates:\n"
                "        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, u)\n"
                "    except AttributeError:\n"
                "      pass\n"
                "    return outputs\n",
                "",
            ),
        ),
    ),
)
