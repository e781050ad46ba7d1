"""The brokers that the suites can be run on, by the name that `--broker` takes."""

from broker import Broker

from .aws_standin import AwsStandin
from .ejabberd import Ejabberd
from .hivemq import HiveMq
from .rabbitmq import RabbitMq

BROKERS = {kind.name: kind for kind in (Broker, AwsStandin, Ejabberd, HiveMq, RabbitMq)}
