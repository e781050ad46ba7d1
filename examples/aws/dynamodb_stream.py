"""A Lambda function on a DynamoDB stream: what changed in the table is invalidated in every cache.

The messages of one batch are numbered, and the stream ends with a farewell: so caches notice when one was lost on its way
to them (docs/protocol.md, "Publishing"). Its role needs `iot:Publish` on the topic. If it fails, the batch comes again.
"""

import json
import os
import uuid

import boto3

TOPIC = os.environ.get("UNSTALE_TOPIC_OF_CACHE", "cache/invalidate/prices")
KEY = os.environ.get("UNSTALE_TABLE_KEY", "id")
# A message may have 128 KB on AWS IoT Core; the rest of it is short.
KEYS_BYTES = 120_000

iot = boto3.client("iot-data")


def publish(envelope):
    iot.publish(topic=TOPIC, qos=1, payload=json.dumps(envelope).encode())


def is_carried(key):
    """Can the protocol name it? 1 to 1,024 bytes of UTF-8 without NUL."""
    return 0 < len(key.encode()) <= 1024 and "\0" not in key


def messages(keys):
    """What is invalidated, in as few messages as will do."""
    if not all(map(is_carried, keys)):
        # No cache holds what cannot be named, but what was made from it may be held: all of it falls.
        yield {"all": True}
        return
    batch, size = [], 0
    for key in sorted(keys):
        # As it is written: a control character becomes six bytes.
        bytes_of_key = len(json.dumps(key)) + len(", ")
        if batch and size + bytes_of_key > KEYS_BYTES:
            yield {"keys": batch}
            batch, size = [], 0
        batch.append(key)
        size += bytes_of_key
    if batch:
        yield {"keys": batch}


def handler(event, context):
    keys = {str(next(iter(record["dynamodb"]["Keys"][KEY].values()))) for record in event["Records"]}
    source, number = uuid.uuid4().hex, 0
    for number, operation in enumerate(messages(keys), 1):
        publish({"v": 1, "src": source, "seq": number, **operation})
    if number:
        publish({"v": 1, "src": source, "seq": number, "bye": True})
