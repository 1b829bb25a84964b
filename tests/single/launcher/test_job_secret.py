import pytest

from hvd_imagenet.launcher.job_secret import VARIABLE, new_secret


def test_horovod_reads_the_secret(monkeypatch):
    from horovod.runner.common.util import secret

    keys = set()
    for _ in range(100):
        monkeypatch.setenv(VARIABLE, new_secret())
        keys.add(secret.job_key())
    assert secret.HOROVOD_SECRET_KEY == VARIABLE
    assert {len(key) for key in keys} == {secret.SECRET_LENGTH}
    assert len(keys) == 100
    assert secret.verified(secret.signed(b"data")) == b"data"
    with pytest.raises(RuntimeError, match="digest did not match the object"):
        secret.verified(b"data")
