"""Large-minibatch training in PyTorch and Keras on Horovod (Goyal et al., 2017)."""

__version__ = "0.1.0"
