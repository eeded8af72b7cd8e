"""A real S3 server on loopback (moto's), for sources and outputs at `s3://bucket/key`.

It takes about two seconds and two hundred megabytes to start: one per session, emptied between tests.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

import httpx
import obstore
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "us-east-1"

logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line per request otherwise


class S3Store:
    """An S3 server at `endpoint`. Buckets are made as they are needed."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self._http = httpx.Client(base_url=self.endpoint, trust_env=False, timeout=20)

    def put(self, bucket: str, key: str, content: bytes) -> str:
        """Store an object and return its `s3://` address."""
        self.make_bucket(bucket)
        self._bucket(bucket).put(key, content)
        return f"s3://{bucket}/{key}"

    def get(self, bucket: str, key: str) -> bytes | None:
        """The object's content, None if there is no such object or bucket."""
        try:
            return bytes(self._bucket(bucket).get(key).bytes())
        except FileNotFoundError:
            return None

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys of a bucket that start with `prefix`, sorted; none if there is no such bucket."""
        if self._http.head(f"/{bucket}").status_code == 404:
            return []
        found = [entry["path"] for batch in self._bucket(bucket).list() for entry in batch]
        return sorted(key for key in found if key.startswith(prefix))

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket; nothing happens if it is there."""
        self._http.put(f"/{bucket}").raise_for_status()

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to find this store, and nothing but this store."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def clear(self) -> None:
        """Forget every bucket."""
        self._http.post("/moto-api/reset").raise_for_status()

    def close(self) -> None:
        """Stop the server."""
        self._http.close()
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _bucket(self, bucket: str) -> obstore.store.S3Store:
        return obstore.store.S3Store(
            bucket,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id="testing",
            secret_access_key="testing",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
