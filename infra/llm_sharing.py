"""What all clients with one row cache share: questions in flight, accounts of budgets, gates of endpoints."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

from infra.config import ConfigError
from infra.llm_budget import Budget, Spending
from infra.llm_flights import Flights
from infra.llm_gate import Gate
from infra.llm_pace import Limits
from infra.llm_price import limit_nusd
from infra.row_cache import RowCache
from infra.runtime import Endpoint
from infra.store import Store


class Shared:
    """Shared by roles, steps and threads: a run has one `llm` row cache, and so one of these."""

    def __init__(self, cache: RowCache) -> None:
        # No reference back to the cache: this one lives as long as that.
        self._store, self._lock = cache.store, threading.Lock()
        self.flights: Flights[str] = Flights()
        self._budgets: dict[str, Budget] = {}
        self._gates: dict[tuple[str, str | None], Gate] = {}

    def gate(self, endpoint: Endpoint) -> Gate:
        """The gate of an address and key, whichever roles go there."""
        limits = Limits(endpoint.max_concurrency, endpoint.requests_per_minute, endpoint.tokens_per_minute)
        with self._lock:
            gate = self._gates.setdefault((endpoint.base_url, endpoint.api_key_env), Gate(limits))
            gate.join(limits)
            return gate

    def budget(self, role: str, endpoint: Endpoint) -> Budget | None:
        """The account that an endpoint's budget names; None where it has no budget.

        Raises:
            ConfigError: see `account_path`.
        """
        if endpoint.budget_usd is None:
            return None
        path = account_path(self._store, role, endpoint)
        with self._lock:
            return self._budgets.setdefault(path.stem, Budget(path))


def account_path(store: Store, role: str, endpoint: Endpoint) -> Path:
    """The file of the account that an endpoint's budget names.

    Raises:
        ConfigError: the store is no folder, so that processes could not see each other's spending.
    """
    if not store.is_local:
        raise ConfigError(
            f"[endpoints.{role}] has budget_usd, and the store {store.uri} is remote: spending is kept in a file that "
            "processes lock; run this role on a profile whose store is a folder, or take budget_usd out"
        )
    return Path(store.uri) / "spending" / f"{endpoint.budget_account or role}.jsonl"


def spendings(store: Store, endpoints: Mapping[str, Endpoint]) -> dict[str, Spending]:
    """Role → how its budget stands, for the roles that have one. Writes nothing."""
    return {
        role: _spending(account_path(store, role, endpoint), limit_nusd(endpoint))
        for role, endpoint in sorted(endpoints.items())
        if endpoint.budget_usd is not None
    }


def _spending(path: Path, limit: int) -> Spending:
    return Budget(path).spending(limit) if path.exists() else Spending(path.stem, limit, 0, 0, 0)


_shared: WeakKeyDictionary[RowCache, Shared] = WeakKeyDictionary()
_lock = threading.Lock()


def shared_by(cache: RowCache) -> Shared:
    """What the clients with this cache share."""
    with _lock:
        if cache not in _shared:
            _shared[cache] = Shared(cache)
        return _shared[cache]
