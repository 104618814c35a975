"""The listening sockets of several workers on one address: the system spreads connections over them (SO_REUSEPORT).

One socket for all would be simpler, but then the worker that wakes up first takes all who wait: of 256 connections at
once to two workers one got 227, and with a socket each 139 (benchmarks/NOTES.md).
"""

import socket

Group = list[list[socket.socket]]

BACKLOG = 2048
MOST_WORKERS = 128


def bind(host: str, port: int, workers: int) -> Group:
    """For each worker a socket for each address of the host; none listens yet. Raises OSError with the address."""
    addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    group: Group = [[] for _ in range(workers)]
    for family, _, _, _, address in dict.fromkeys(addresses):
        for sockets in group:
            bound = _bind(family, str(address[0]), port, alone=sockets is group[0])
            sockets.append(bound)
            port = bound.getsockname()[1]  # the one that was found, where any would do
    return group


def numbers(group: Group) -> list[list[int]]:
    """File descriptors that a process which is started will have, too."""
    for sockets in group:
        for each in sockets:
            each.set_inheritable(True)
    return [[each.fileno() for each in sockets] for sockets in group]


def of_numbers(descriptors: list[list[int]]) -> Group:
    return [[socket.socket(fileno=number) for number in each] for each in descriptors]


def _bind(family: int, address: str, port: int, *, alone: bool) -> socket.socket:
    """The first of a group is bound alone, and shares only then: a port that another service has is an error."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(not alone))
    try:
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        text = f"error while attempting to bind on address {(address, port)}: {(error.strerror or '').lower()}"
        raise OSError(error.errno, text) from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return bound
