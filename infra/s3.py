"""Whether a store on S3 can be used as the profile says, asked once and at once, before anything is started.

The store itself is patient with a server that stumbles in the midst of a run; this question is not.
"""

from __future__ import annotations

from typing import Any

from infra.config import ConfigError
from infra.runtime import Runtime, storage_options
from infra.store import Store, StoreError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 5
KEYS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `key` and `secret` of storage_options, to keys that it takes"
)
RIGHTS = "give these keys the rights to list, read and write below the prefix"
ENDPOINT = "check `endpoint_url` of storage_options and that its server runs"
# The server's own code, or the kind of error where it gives none → what to do.
REMEDIES = {
    "AccessDenied": RIGHTS,
    "403": RIGHTS,
    "PermissionError": RIGHTS,
    "NoCredentialsError": KEYS,
    "InvalidAccessKeyId": KEYS,
    "SignatureDoesNotMatch": KEYS,
    "ExpiredToken": "get new temporary keys and run the same command again: it goes on",
    "NoSuchBucket": "make the bucket, or name another in `store`",
    "404": ENDPOINT,
    "PermanentRedirect": "the bucket lies in another region: set `region` of storage_options",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set `region` of storage_options",
    "RequestTimeTooSkewed": "set this machine's clock",
}
WRITE_PROBE = "runs/writable"


def check_s3(store: Store, runtime: Runtime, writes: bool) -> None:
    """One list request, and for a run that writes one conditional write; a folder is not asked.

    Raises:
        ConfigError: keys, bucket, endpoint or rights are not in order, or the server would let two runs both publish.
    """
    if store.is_local:
        return
    _check_readable(runtime)
    if writes:
        _check_writable(store, runtime)


def _check_readable(runtime: Runtime) -> None:
    from botocore.exceptions import BotoCoreError

    bucket, _, prefix = runtime.store.removeprefix("s3://").partition("/")
    try:
        _impatient(runtime).call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (BotoCoreError, OSError, ValueError) as error:
        raise _refusal(runtime, error) from error


def _check_writable(store: Store, runtime: Runtime) -> None:
    """The same empty object each time: it needs no right to delete, and the store's own marks stay as they are."""
    path = f"{store.uri}/{WRITE_PROBE}"
    try:
        # Made now: then the same again must be refused, or two runs that race would both publish.
        is_ignored = store.create(path, b"") and store.create(path, b"")
    except StoreError as error:
        raise _refusal(runtime, error.__cause__ or error) from error
    if is_ignored:
        raise ConfigError(
            f"store {runtime.store}: its server ignores `If-None-Match: *`, so two runs that race would both publish; "
            "use an S3 server that honours conditional writes"
        )


def _impatient(runtime: Runtime) -> Any:
    import fsspec

    config = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S, "retries": {"max_attempts": 1}}
    fs = fsspec.filesystem("s3", config_kwargs=config, skip_instance_cache=True, **storage_options(runtime))
    fs.retries = 1
    return fs


def _refusal(runtime: Runtime, error: BaseException) -> ConfigError:
    """The error in one line, with what to do about it."""
    endpoint = runtime.storage_options.get("endpoint_url")
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", type(error).__name__)
    remedy = REMEDIES.get(code, ENDPOINT)
    place = f"{runtime.store} at {endpoint}" if endpoint else runtime.store
    text = " ".join(str(error).split()).rstrip(".")
    return ConfigError(f"store {place} cannot be used: {code}: {text}; {remedy}")
