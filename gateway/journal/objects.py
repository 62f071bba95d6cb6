"""Which object in the store which job needs: what nobody needs any more is removed, and nothing else ever is.

Whoever puts an object says first that its job needs it (:func:`use`), and whoever removes one claims it first
(:func:`claim`), each in a transaction. So either the remover sees the user, or the user sees the removal and waits for
its end: there is no moment between looking and removing in which an object can get a user unseen.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Integer, String, bindparam, delete, exists, insert, select

from gateway.journal.prepared import Prepared
from gateway.journal.tables import job_objects, removals
from gateway.journal.transaction import Transaction
from gateway.runtime import GatewayError

# What runs for each job is built once.
_BY_JOB, _BY_KEY = job_objects.c.job_id == bindparam("job_id"), job_objects.c.key == bindparam("key")
_REMOVAL = Prepared(select(removals.c.key).where(removals.c.key == bindparam("key")))
_NEW = Prepared(
    insert(job_objects).from_select(
        ["job_id", "key"],
        select(bindparam("job_id", type_=Integer), bindparam("key", type_=String)).where(
            ~exists().where(removals.c.key == bindparam("key")), ~exists().where(_BY_JOB, _BY_KEY)
        ),
    )
)
_OF_JOB = Prepared(select(job_objects.c.key).where(_BY_JOB))
_RELEASED = Prepared(delete(job_objects).where(_BY_JOB))
_USER = Prepared(select(job_objects.c.job_id).where(_BY_KEY).limit(1))


class BeingRemoved(GatewayError):
    """An object that a job needs is being removed from the store at this moment."""

    transient = True


def use(c: Transaction, job_id: int, keys: Collection[str]) -> None:
    """From now on a job that is not over needs the objects *keys*; said before they are put. Raises BeingRemoved."""
    for key in keys:
        # Nothing is new where it is known, or being removed: only then that is asked for.
        if not c.change(_NEW, {"job_id": job_id, "key": key}) and c.row(_REMOVAL, {"key": key}) is not None:
            raise BeingRemoved("an older copy of the object is being removed from the store: it is put anew after that")


def of(c: Transaction, job_id: int) -> list[str]:
    """The objects that a job needs."""
    return [row.key for row in c.rows(_OF_JOB, {"job_id": job_id})]


def release(c: Transaction, job_id: int) -> None:
    """A job needs none of its objects any more."""
    c.change(_RELEASED, {"job_id": job_id})


def user_of(c: Transaction, key: str) -> int | None:
    """A job that needs the object *key*."""
    found: int | None = c.value(_USER, {"key": key})
    return found


def claim(c: Transaction, job_id: int, key: str) -> int | None:
    """Lets a job remove the object *key*: nobody can begin to use it until :func:`removed`. None, or who needs it."""
    user = user_of(c, key)
    if user is None and c.row(_REMOVAL, {"key": key}) is None:
        c.execute(insert(removals).values(key=key, job_id=job_id))
    return user


def removed(c: Transaction, key: str) -> None:
    """The object *key* is gone; it may be put anew."""
    c.execute(delete(removals).where(removals.c.key == key))
