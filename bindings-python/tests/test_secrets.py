"""A password or a key that was handed to a client shows in nothing that the client prints. `tests/tls` looks at all that is said on the
way to a broker; here is what a program gets to print by itself."""

import logging
import os
import pprint
import subprocess
import sys

import pytest

import unstale

SECRET = "pl4nted7351"
KEY = "k:" + SECRET.encode().hex() * 3  # 32 bytes and more
AWS = {"access_key_id": "AKIA", "secret_access_key": SECRET, "session_token": SECRET, "region": "eu-central-1"}


def printed(client):
    cache = client.cache("things")
    cache.set("k", 1)
    parts = [client, cache, cache.invalidate("k"), client.status(), cache.stats(), getattr(client, "__dict__", None)]
    return "\n".join(f"{part!r} {part!s} {pprint.pformat(part)}" for part in parts)


@pytest.mark.parametrize(
    "url, options",
    [
        (f"mqtt://user:{SECRET}@127.0.0.1:1", {}),
        (f"mqtt://127.0.0.1:1?username=user&password={SECRET}", {}),
        ("mqtt://127.0.0.1:1", {"username": "user", "password": SECRET, "signing_key": KEY}),
        ("awsiot://127.0.0.1:1", {"aws": AWS}),
        ("awsiot://127.0.0.1:1", {"aws": {"token": SECRET, "token_key_name": "t", "authorizer": "a"}, "password": SECRET}),
    ],
)
def test_a_client_prints_no_secret(url, options, caplog):
    caplog.set_level(logging.DEBUG, "unstale")
    with unstale.connect(url, lazy=True, **options) as client:
        text = printed(client)
        client.close(0)
    assert "127.0.0.1" in text, "the URL is there"
    assert SECRET not in text + caplog.text and SECRET.encode().hex() not in text + caplog.text


@pytest.mark.parametrize(
    "url, options",
    [
        (None, {"password": [SECRET]}),
        (None, {"password": SECRET.encode()}),
        (None, {"signing_key": SECRET}),
        (None, {"signing_key": {"k": SECRET}}),
        (None, {"signing_key": [KEY, f"short:{SECRET}"]}),
        (None, {"aws": SECRET}),
        (None, {"aws": [SECRET]}),
        (None, {"aws": {"secret_access_key": [SECRET]}}),
        (None, {"aws": {"session_token": {SECRET: SECRET}}}),
        (None, {"tls": SECRET}),
        (f"mqttx://u:{SECRET}@h", {}),
        (f"mqtt://u:{SECRET}@h:99999999", {}),
        (f"mqtt://u:{SECRET}@h?foo=1", {}),
        (f"mqtt://u:{SECRET}@h", {"password": "another"}),
        (f"mqtt://u:/{SECRET}@h", {}),
        (f"mqtt://u:?{SECRET}@h", {}),
    ],
)
def test_an_error_prints_no_secret(url, options):
    with pytest.raises((unstale.ConfigError, TypeError)) as raised:
        unstale.connect(url, **options)
    assert SECRET not in f"{raised.value} {raised.value!r} {raised.value.args}"


TRACED = """
import time
import unstale
with unstale.connect("awsiot://127.0.0.1:1", lazy=True, aws={aws!r}) as client:
    deadline = time.monotonic() + 20
    while "refused" not in client.status()["reason"] and time.monotonic() < deadline:
        time.sleep(0.01)
    client.close(0)
"""


def test_the_mqtt_librarys_trace_holds_no_signature_and_no_token():
    trace = {"MQTT_C_CLIENT_TRACE": "ON", "MQTT_C_CLIENT_TRACE_LEVEL": "MAXIMUM"}
    done = subprocess.run(
        [sys.executable, "-c", TRACED.format(aws=AWS)],
        env={**os.environ, **trace},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Connecting to serverURI 127.0.0.1:1/mqtt with" in done.stdout
    assert SECRET not in done.stdout and "X-Amz" not in done.stdout
