"""Many commands at once, packed by hand: with redis-py's `Pipeline`, each costs three times as much.

In a Redis Cluster they go to the nodes that have their keys.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gevent.monkey import get_original
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
)

from mediastreams.cluster.entries import Fields

Command = tuple[str, bytes]
"""The key, which says on which node of a Redis Cluster it is, and the command, packed."""

_ANSWERED_SECONDS = 0.01  # what Redis needs for 250 entries, and the network

_sleep = get_original("time", "sleep")  # of the system, also where gevent has patched it


def packed(*arguments: bytes) -> bytes:
    """Return a command as it goes over the wire: an array of bulk strings.

    Source: https://redis.io/docs/latest/develop/reference/protocol-spec/#sending-commands-to-a-redis-server
    """
    return b"*%d\r\n%b" % (len(arguments), bulk(*arguments))


def bulk(*arguments: bytes) -> bytes:
    """Return arguments of a command as they go over the wire."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


def pipeline(client: Redis | RedisCluster, commands: Sequence[Command]) -> list[Any]:
    """Send commands at once; return the answer to each, a `ResponseError` where one failed."""
    if isinstance(client, RedisCluster):
        return _to_nodes(client, commands)
    return _send(client, [command for _, command in commands])


def read_streams(
    client: Any,
    cursors: Mapping[str, bytes],
    count: int,
    take: Callable[[str, list[tuple[bytes, Fields]]], None],
    fail: Callable[[str, ResponseError], None],
) -> None:
    """Hand to `take` what follows the cursor of each stream, at most so many entries of each.

    `fail` gets the error of a stream that cannot be read. One command, but in a Redis Cluster, where a
    command has the keys of one slot, and where it fails: one for each stream.
    """
    if not isinstance(client, RedisCluster):
        try:
            streams: Any = client.xread(dict(cursors), count=count)
        except ResponseError:
            pass  # of which stream, it does not say
        else:
            for key, entries in streams or ():
                take(key.decode(), entries)
            return
    most = b"%d" % count
    commands = [
        (key, packed(b"XREAD", b"COUNT", most, b"STREAMS", key.encode(), cursor))
        for key, cursor in cursors.items()
    ]
    for (key, _), answer in zip(commands, pipeline(client, commands), strict=True):
        if isinstance(answer, ResponseError):
            fail(key, answer)
            continue
        for _, entries in answer or ():
            take(key, [(id, _fields(names_and_values)) for id, names_and_values in entries])


def _fields(names_and_values: list[bytes]) -> Fields:
    return dict(zip(names_and_values[::2], names_and_values[1::2], strict=True))


def _send(client: Redis, commands: Sequence[bytes]) -> list[Any]:
    """Send commands to one server.

    The answers are read when all of them should be there: else they come in many pieces, and this thread
    wakes up for each.
    """
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([b"".join(commands)])
        _sleep(_ANSWERED_SECONDS)
        return [_answer(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # answers that are not read yet must not be taken for those to other commands
        raise
    finally:
        client.connection_pool.release(connection)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _to_nodes(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands to the nodes that have their keys.

    A node that does not answer has answered `ClusterDownError`, so that the others' answers count.
    """
    nodes: dict[str, Any] = {}
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for i, (key, _) in enumerate(commands):
        node = client.get_node_from_key(key)
        nodes[node.name] = node
        numbers[node.name].append(i)
    answers: list[Any] = [None] * len(commands)
    for name, of_node in numbers.items():
        node = nodes[name]
        for i, answer in zip(of_node, _ask(client, node, [commands[i][1] for i in of_node]), strict=True):
            answers[i] = answer
    elsewhere = [i for i, answer in enumerate(answers) if isinstance(answer, AskError | ClusterDownError)]
    if elsewhere:
        with contextlib.suppress(RedisClusterException, ConnectionError, TimeoutError):
            client.nodes_manager.initialize()
    for i in elsewhere:
        answers[i] = _follow(client, commands[i][1], answers[i])
    return answers


def _ask(client: Any, node: Any, commands: Sequence[bytes]) -> list[Any]:
    try:
        return _send(client.get_redis_connection(node), commands)
    except (ConnectionError, TimeoutError, OSError) as error:
        return [ClusterDownError(f"{node.name}: {error}")] * len(commands)


def _follow(client: Any, command: bytes, error: ResponseError) -> Any:
    """Send a command to the node that an answer names, if it names one; return the new answer.

    Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#redirection-and-resharding
    """
    node = client.get_node(error.host, error.port) if isinstance(error, AskError) else None
    if node is None:
        return error
    if isinstance(error, MovedError):
        return _ask(client, node, [command])[0]
    return _ask(client, node, [packed(b"ASKING"), command])[1]
