"""RemoteMonitor: the logs of each epoch, sent to a server."""

import json
import warnings
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from keraslite.callbacks.base import Callback, number


class RemoteMonitor(Callback):
    """Sends the logs of each epoch to a server by HTTP POST; a server that is down is a warning.

    Args:
        root: the address of the server.
        path: what follows the address.
        field: the field of the form that holds the JSON.
        headers: further HTTP headers.
        send_as_json: whether the JSON is sent by itself and not in a form.

    >>> RemoteMonitor("http://localhost:9000", send_as_json=True).path
    '/publish/epoch/end/'
    """

    def __init__(
        self, root: str = "http://localhost:9000", path: str = "/publish/epoch/end/",
        field: str = "data", headers: Mapping[str, str] | None = None, send_as_json: bool = False,
    ):  # fmt: skip
        super().__init__()
        if urlsplit(root).scheme not in ("http", "https"):
            raise ValueError(f"root must be an address of http or https, got {root!r}.")
        self.root, self.path, self.field = root, path, field
        self.headers, self.send_as_json = headers, send_as_json

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Send the logs."""
        from urllib.request import Request, urlopen  # takes long to import

        values = {name: number(value) for name, value in (logs or {}).items()}
        text = json.dumps({"epoch": epoch, **values}, default=np.ndarray.tolist)
        body = text if self.send_as_json else urlencode({self.field: text})
        form = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        headers = {"Content-Type": form, **(self.headers or {})}
        request = Request(self.root + self.path, body.encode(), headers)
        try:
            with urlopen(request, timeout=30):
                pass
        except OSError as error:
            warnings.warn(
                f"The logs did not reach the server at {self.root}: {error}.", stacklevel=2
            )
