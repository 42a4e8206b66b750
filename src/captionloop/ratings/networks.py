"""From the address that a rating came from to a name of its network, which means nothing after the day.

Ratings of one network on one day can be told to be of one, so that nobody weighs more by having many names.
The name is a keyed hash with a salt of the day; the salts of earlier days are forgotten, and with them what
the names stand for.
"""

import hashlib
import ipaddress
import secrets
from datetime import date

from sqlalchemy import Connection, delete, select

from captionloop.ratings.database import insert_into
from captionloop.ratings.rating_tables import NetworkSalt, now

IPV4_PREFIX, IPV6_PREFIX = 24, 48
"""What one customer, or one site, may well have all of."""


def network_block(address: str) -> str | None:
    """The block of an address: /24 of IPv4, /48 of IPv6; None of one that is not public.

    Behind a private address there may be everybody: a company's network, or a proxy that nobody trusts.
    """
    try:
        parsed = ipaddress.ip_interface(address).ip
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped or parsed
    if not parsed.is_global:
        return None
    prefix = IPV4_PREFIX if parsed.version == 4 else IPV6_PREFIX
    return str(ipaddress.ip_network((parsed, prefix), strict=False))


def network_name(connection: Connection, block: str) -> str:
    """The name of a block for today (UTC), within a transaction that may write."""
    salt = _salt(connection, now().date())
    return hashlib.blake2b(block.encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()


def forget_salts(connection: Connection) -> int:
    """Forget the salts of the days before today; how many there were."""
    return connection.execute(delete(NetworkSalt).where(NetworkSalt.day < now().date())).rowcount


def _salt(connection: Connection, day: date) -> str:
    """The day's salt. Of several gateways whichever is first makes it; then those before are forgotten."""
    query = select(NetworkSalt.salt).where(NetworkSalt.day == day)
    salt = connection.scalar(query)
    if salt is None:
        forget_salts(connection)
        row = insert_into(connection.dialect.name, NetworkSalt).values(day=day, salt=secrets.token_hex(32))
        connection.execute(row.on_conflict_do_nothing(index_elements=["day"]))
        salt = connection.scalar(query)
    assert salt is not None, "on_conflict_do_nothing leaves a row"
    return salt
