"""Flink's REST API, which both engines speak, and their metrics pages."""

import json
import pathlib
import urllib.error
import urllib.request
import uuid
from typing import Any


class RestError(Exception):
    """A request that an engine refused."""


def get_text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def request(method: str, url: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
    call = urllib.request.Request(url, body, {"Content-Type": content_type}, method=method)
    try:
        with urllib.request.urlopen(call, timeout=60) as answer:
            text = answer.read()
    except urllib.error.HTTPError as refusal:
        raise RestError(f"{method} {url}: {refusal.code} {refusal.read().decode(errors='replace')[:2000]}") from refusal
    return json.loads(text) if text else None


def reachable(url: str) -> Any:
    """The answer, or None while nobody answers."""
    try:
        return request("GET", url)
    except (OSError, RestError):
        return None


def upload(url: str, file: pathlib.Path) -> str:
    """Uploads a jar and gives its id."""
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{file.name}\"\r\n"
        "Content-Type: application/x-java-archive\r\n\r\n"
    )
    body = head.encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    answer = request("POST", f"{url}/jars/upload", body, f"multipart/form-data; boundary={boundary}")
    return answer["filename"].rpartition("/")[2]


def jobs(url: str) -> list[dict[str, Any]]:
    """What /jobs/overview tells: jid, name, state; nothing while nobody answers."""
    return (reachable(f"{url}/jobs/overview") or {}).get("jobs", [])
