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
    """Why a request failed, in words, without the account and the password of a proxy."""
    from huggingface_hub.errors import HfHubHTTPError

    said, proxy = one_line(error).split(". ")[0] or type(error).__name__, proxy_for(address)
    if proxy is None:
        return said
    variable, value = proxy
    account, at, place = value.rpartition("@")  # a scheme may be missing, and a password may have any sign in it
    if at:
        place = f"…@{place}"
        for secret in filter(None, (account, account.rpartition("//")[2])):  # some errors leave the scheme out
            said = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", said)  # a short one may be a part of any word
    if isinstance(error, HfHubHTTPError):
        return said
    return f"{said}, asked through the proxy {variable}={place}; correct or unset that variable"


def proxy_for(address: str) -> tuple[str, str] | None:
    """The variable that sets the proxy for requests for this address, and its value; None for no proxy."""
    parts = urlsplit(address)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            if value := os.environ.get(variable):
                return variable, value
    return None
