"""A second reader of the protocol, written from docs/protocol.md alone: plain Python, standard library only.

It keeps the document honest. Whatever it and the Rust core read differently from the vectors in tests/vectors is a
fault of one of the three. It is also the shortest way to see what an implementation in another language has to do.

    $ echo -n '{"v":1,"keys":["user:42"]}' | python3 reader.py
    {"envelope": {"keys": ["user:42"], "operations": 1}}
"""

import hashlib
import hmac
import json
import re
import sys

MAX_PAYLOAD = 262_144
MAX_OPERATIONS = 10_000
MAX_NAME = 1_024
MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64


class Malformed(Exception):
    """Nothing of the payload is applied, and it is doubt."""


class NewerVersion(Malformed):
    """The same, but the publisher is not at fault."""

    def __init__(self, version):
        super().__init__(f"version {version}")
        self.version = version


class NotAnInteger:
    """A number that is not written as the protocol's integers are; allowed in unknown fields only."""


class Pairs(list):
    """A JSON object as it was written: names may be there twice."""


def read(payload):
    """What `payload`, bytes, says: {"empty": True}, {"plain": key} or {"envelope": fields}."""
    if len(payload) > MAX_PAYLOAD:
        raise Malformed("too long")
    if not payload:
        return {"empty": True}
    if payload[:1] != b"{":
        if len(payload) > MAX_NAME or b"\0" in payload:
            raise Malformed("a plain key that is too long, or with a NUL")
        return {"plain": utf8(payload)}
    return {"envelope": envelope(json_object(utf8(payload)))}


def utf8(payload):
    try:
        return payload.decode("utf-8", errors="strict")
    except UnicodeDecodeError as fault:
        raise Malformed(f"not UTF-8: {fault}") from None


# ---- JSON, strictly ----


def json_object(text):
    """The envelope's own object as a dict, checked as far as it is JSON."""
    check_depth(text)
    try:
        pairs = json.loads(
            text,
            object_pairs_hook=Pairs,
            parse_int=integer,
            parse_float=lambda _: NotAnInteger(),
            parse_constant=no_constant,
        )
    except ValueError as fault:
        raise Malformed(f"not JSON: {fault}") from None
    check_surrogates(pairs)
    return without_twins(pairs)


def check_depth(text):
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        if token[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed("too deep")
        elif token[0] in "]}":
            depth -= 1


def integer(digits):
    if re.fullmatch(r"0|[1-9][0-9]{0,15}", digits) and int(digits) <= MAX_INTEGER:
        return int(digits)
    return NotAnInteger()


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


def check_surrogates(value):
    """Python's json joins surrogate pairs, so a surrogate that is left is a lone one."""
    if isinstance(value, str):
        if re.search("[\ud800-\udfff]", value):
            raise Malformed("a lone surrogate")
    elif isinstance(value, Pairs):
        for name, member in value:
            check_surrogates(name)
            check_surrogates(member)
    elif isinstance(value, list):
        for member in value:
            check_surrogates(member)


def without_twins(pairs):
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Malformed("a name twice")
    return fields


# ---- fields ----


def envelope(fields):
    version = whole(fields, "v", least=1)
    if version is None:
        raise Malformed("no version")
    if version > 1:
        raise NewerVersion(version)
    message = {
        "src": source(fields),
        "seq": whole(fields, "seq", least=1),
        "first": whole(fields, "first", least=1),
        "keys": names(fields, "keys"),
        "versions": versions(fields),
        "tags": names(fields, "tags"),
        "prefixes": names(fields, "prefixes"),
        "all": flag(fields, "all"),
        "hello": flag(fields, "hello"),
        "bound": whole(fields, "bound"),
        "bye": flag(fields, "bye"),
        "ts": whole(fields, "ts"),
    }
    check_stamp(message)
    if not set(message["versions"]) <= set(message["keys"]):
        raise Malformed("a version of a key that is not in keys")
    message["versions"] = {key: n for key, n in message["versions"].items() if n is not None}
    operations = sum(len(message[field]) for field in ("keys", "tags", "prefixes")) + message["all"]
    if operations > MAX_OPERATIONS:
        raise Malformed("too many operations")
    # By type, since Python takes 0 for False.
    present = {field: value for field, value in message.items() if type(value) is int or value}
    return dict(present, operations=operations)


def check_stamp(message):
    src, seq, first = message["src"], message["seq"], message["first"]
    if seq is not None and src is None:
        raise Malformed("seq without src")
    if src is not None and seq is None and not message["hello"]:
        raise Malformed("src without seq")
    if first is not None and (seq is None or first > seq):
        raise Malformed("first without seq, or above it")
    if first is None:
        message["first"] = seq


def whole(fields, name, least=0):
    value = fields.get(name)
    if value is not None and (type(value) is not int or value < least):
        raise Malformed(f"{name} is not an integer of at least {least}")
    return value


def flag(fields, name):
    value = fields.get(name)
    if value is not None and type(value) is not bool:
        raise Malformed(f"{name} is not a boolean")
    return bool(value)


def source(fields):
    value = fields.get("src")
    if value is not None and not (type(value) is str and re.fullmatch("[A-Za-z0-9_-]{1,64}", value)):
        raise Malformed("src is not 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def names(fields, name):
    value = fields.get(name)
    if value is None:
        return []
    if type(value) is not list or not all(is_name(item) for item in value):
        raise Malformed(f"{name} is not a list of names")
    return value


def versions(fields):
    value = fields.get("versions")
    if value is None:
        return {}
    if not isinstance(value, Pairs):
        raise Malformed("versions is not an object")
    by_key = without_twins(value)
    for key in by_key:
        whole(by_key, key)
    return by_key


def is_name(value):
    return type(value) is str and 1 <= len(value.encode("utf-8")) <= MAX_NAME and "\0" not in value


# ---- signatures ----

SIGNED = rb'(\{.*),"sig":"([A-Za-z0-9._-]{1,32}):([0-9a-f]{64})"\}'
SIGNED_PROBE = rb"([0-9]+) ([A-Za-z0-9._-]{1,32}):([0-9a-f]{64})"


def verdict(payload, topic, keys, form=SIGNED):
    """Whether who has `keys`, secrets by id, believes `payload` on `topic`; `form` tells envelopes from probes."""
    signed = re.fullmatch(form, payload, re.DOTALL)
    if signed is None:
        return "unsigned"
    body, key, claimed = signed[1], signed[2].decode(), signed[3].decode()
    if key not in keys:
        return "unknown_key"
    return "valid" if hmac.compare_digest(claimed, signature(body, topic, keys[key])) else "bad_signature"


def signature(body, topic, secret):
    return hmac.new(secret, b"unstale1\n" + topic.encode("utf-8") + b"\n" + body, hashlib.sha256).hexdigest()


# ---- names outside payloads ----


def is_namespace(value):
    return re.fullmatch("(?!_)[A-Za-z0-9._-]{1,64}", value) is not None


def is_topic(value):
    return (
        1 <= len(value.encode("utf-8")) <= 184
        and value.count("/") <= 5
        and value[0] not in "$/"
        and re.search("[+#\0-\x1f\x7f-\x9f]", value) is None
    )


def is_token(value):
    parts = re.fullmatch("u1:([A-Za-z0-9_-]{1,64}):([1-9][0-9]{0,15}):(.*)", value, re.DOTALL)
    return parts is not None and int(parts[2]) <= MAX_INTEGER and (parts[3] == "" or is_namespace(parts[3]))


def outcome(payload):
    """What the vectors call it."""
    try:
        return read(payload)
    except NewerVersion as newer:
        return {"newer_version": newer.version}
    except Malformed:
        return {"malformed": True}


if __name__ == "__main__":
    json.dump(outcome(sys.stdin.buffer.read()), sys.stdout)
    print()
