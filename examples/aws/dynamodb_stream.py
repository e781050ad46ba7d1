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
# Of at most 1,024 bytes each, escaped twice as long at worst; a message may have 128 KB on AWS IoT Core.
KEYS_PER_MESSAGE = 40

iot = boto3.client("iot-data")


def publish(envelope):
    iot.publish(topic=TOPIC, qos=1, payload=json.dumps(envelope).encode())


def handler(event, context):
    keys = {str(next(iter(record["dynamodb"]["Keys"][KEY].values()))) for record in event["Records"]}
    ordered, source, number = sorted(keys), uuid.uuid4().hex, 0
    for start in range(0, len(ordered), KEYS_PER_MESSAGE):
        number += 1
        publish({"v": 1, "src": source, "seq": number, "keys": ordered[start : start + KEYS_PER_MESSAGE]})
    if number:
        publish({"v": 1, "src": source, "seq": number, "bye": True})
