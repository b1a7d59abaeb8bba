"""posttrain sandbox serve: what it refuses before it serves."""

import socket

import pytest

from flows.commands import sandbox
from infra.config import ConfigError
from tasks.rewards.code_service import open_listener


def test_other_machines_are_let_in_with_a_token_only() -> None:
    with pytest.raises(ConfigError, match="--token-env"):
        sandbox.serve(host="0.0.0.0", port=0)


def test_the_variable_of_the_token_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="SANDBOX_TOKEN"):
        sandbox.serve(host="0.0.0.0", port=0, token_env="SANDBOX_TOKEN")


def test_answers_do_not_wait_for_the_client_to_confirm_their_first_part() -> None:
    """40 ms a request: asyncio sets NODELAY on no socket that was made elsewhere."""
    with (
        open_listener("127.0.0.1", 0, has_token=False) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
