import pytest

from hvd_imagenet.signing import VARIABLE, new_secret, signed, verified


def test_only_what_is_signed_with_the_same_secret_is_taken(monkeypatch):
    monkeypatch.setenv(VARIABLE, new_secret())
    message = signed(b"data")
    assert verified(message) == b"data"
    assert len(message) == 32 + 4
    for wrong in (b"", b"data", message[:-1], message + b"x", bytes([message[0] ^ 1]) + message[1:]):
        with pytest.raises(ValueError, match="must be signed with the job's secret"):
            verified(wrong)
    monkeypatch.setenv(VARIABLE, new_secret())
    with pytest.raises(ValueError, match=f"got {len(message)} bytes that are not"):
        verified(message)


def test_a_job_without_a_secret_sends_what_it_has(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert verified(signed(b"data")) == signed(b"data") == b"data"


def test_horovod_reads_the_secret(monkeypatch):
    from horovod.runner.common.util import secret

    monkeypatch.setenv(VARIABLE, new_secret())
    assert secret.HOROVOD_SECRET_KEY == VARIABLE
    assert len(secret.job_key()) == secret.SECRET_LENGTH
    assert secret.verified(secret.signed(b"data")) == b"data"
    with pytest.raises(RuntimeError, match="digest did not match the object"):
        secret.verified(b"data")
