"""The subcommands: options of each, and the call into the package that does the work."""

# name → what `--help` says of it; the module is hvd_imagenet.commands.NAME, with `-` as `_`.
COMMANDS = {
    "install-horovod": "build Horovod for the installed torch and tensorflow, and install it",
    "doctor": "say what is installed, what fits together, and what to do where it does not",
    "make-dataset": "write a small image data set in ImageNet's layout",
    "pack": "pack a data folder's images into a few large files",
    "schedule": "print the learning rate of every iteration",
    "train": "train a network with any minibatch on any number of processes",
    "evaluate": "top-1 and top-5 validation error of a checkpoint",
    "export": "write a checkpoint's weights under torchvision's or Keras' names",
    "plan": "predict the speed of a cluster: time of a step, efficiency, what limits it",
    "report": "tables, figures and a page from run folders, finished or still going on",
    "launch": "start a command on several processes, here or on a cluster",
}
