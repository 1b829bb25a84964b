import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.allowed_environment import allowed_environment, is_allowed, tools_left_out


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "OMP_NUM_THREADS"),
        *("TF_NUM_INTRAOP_THREADS", "KERAS_BACKEND", "HOROVOD_CYCLE_TIME", "NCCL_DEBUG", "CUDA_VISIBLE_DEVICES"),
        "GLIBC_TUNABLES",
        *(
            "OMPI_MCA_btl",
            "PMIX_RANK",
            "PRTE_MCA_x",
            "I_MPI_PIN",
            "MPIR_CVAR_X",
            "UCX_TLS",
            "SLURM_JOB_ID",
            "TMPDIR",
            "USER",
            "HVD_IMAGENET_KEY",
        ),
    ],
)
def test_what_training_reads_is_passed_on(name):
    assert is_allowed(name)


@pytest.mark.parametrize(
    "name",
    [
        *("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HTTP_PROXY", "https_proxy", "PGPASSWORD"),
        *(
            "SLURM_JWT",
            "TF_VAR_db",
            "TF_TOKEN_app",
            "TORCH_HUB_TOKEN",
            "MY_DATA",
            "path",
            "PATHS",
            "_HOROVOD_SECRET_KEY",
        ),
    ],
)
def test_the_rest_is_not(name):
    assert not is_allowed(name)
    assert is_allowed(name, [name])


def test_env_takes_names_and_beginnings():
    everything = {"WANDB_API_KEY": "a", "WANDB_MODE": "b", "HOME": "/h", "WAND": "c"}
    expected = {"WANDB_API_KEY": "a", "WANDB_MODE": "b", "HOME": "/h", "HOROVOD_PASS_ENV": "WANDB_*"}
    assert allowed_environment(everything, ["WANDB_*"]) == expected
    assert allowed_environment({"A": "1", "HOROVOD_PASS_ENV": "B"}, ["A"])["HOROVOD_PASS_ENV"] == "B,A"
    assert allowed_environment({"HOME": "/h"}) == {"HOME": "/h"}
    assert tools_left_out(everything, ["WANDB_MODE"]) == ["WANDB_API_KEY"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            "A=hunter2",
            "--env A=…: it takes the name alone, since others can read what is on a command line; "
            "set the variable before: A=… hvd-imagenet launch --env A …",
        ),
        ("A B", "--env 'A B': not a variable's name; a name, or a beginning of one with * behind it, is"),
        ("*", "--env '*': not a variable's name; a name, or a beginning of one with * behind it, is"),
        ("NOT_SET", "--env NOT_SET: there is no such variable to pass on; export it first"),
    ],
)
def test_a_wrong_name_is_refused_and_its_value_not_repeated(extra, message):
    with pytest.raises(UserError) as caught:
        allowed_environment({"HOME": "/h"}, [extra])
    assert str(caught.value) == message
