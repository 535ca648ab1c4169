"""Whether the network may be used, and why it could not be.

in:  the environment; an address, and the error that a request for it ended in
out: the cause in words; a proxy is named with the variable that sets it
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from neurogen.errors import one_line


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE=1 forbids all downloads."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cause_of(error: BaseException, address: str) -> str:
    """Why a request failed, in words."""
    from huggingface_hub.errors import HfHubHTTPError

    proxy = proxy_for(address)
    said = one_line(error).split(". ")[0] or type(error).__name__
    if proxy is None or isinstance(error, HfHubHTTPError):
        return said
    return f"{said}, asked through the proxy {proxy}; correct or unset that variable"


def proxy_for(address: str) -> str | None:
    """VARIABLE=VALUE of the proxy that requests for this address go through, without a password; None for no proxy."""
    parts = urlsplit(address)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            value = os.environ.get(variable)
            if value:
                return f"{variable}={re.sub('//[^/@]*@', '//…@', value)}"
    return None
