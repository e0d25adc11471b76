"""The work of streams: queued, and run as a policy says, in any order that CUDA allows.

The policy is ``FAKE_GPU_POLICY``, or :data:`policy` while it is set:

- "late": run work when somebody waits for it, and of other streams only what it depends on;
- "early": run work at once;
- "random" or "random:SEED": now and then run some of what is pending, of any stream.
"""

import os
import random
from collections import deque

from . import errors

policy = os.environ.get("FAKE_GPU_POLICY") or "late"
_dice = random.Random(int(policy.partition(":")[2] or 0))
_pending = {}  # queues with work, in the order in which they got it


def set_policy(name):
    """Change the policy; what is pending runs first."""
    global policy
    finish_all()
    policy = name
    _dice.seed(int(name.partition(":")[2] or 0))


class Work:
    """Something to run on a queue once all of ``after``, of other queues, is done."""

    def __init__(self, queue, run, after):
        self.queue, self.run, self.after, self.done = queue, run, after, False


class Queue:
    def __init__(self):
        self._works = deque()

    def put(self, run, after=()):
        """Queue a function, which runs after what was queued here before, and after works of other queues."""
        errors.check()
        work = Work(self, run, after)
        self._works.append(work)
        _pending[self] = None
        if policy == "early":
            self.finish(work)
        elif policy.startswith("random"):
            _run_some()
        return work

    def finish(self, last=None):
        """Run what is queued, up to and with a work of this queue if one is named."""
        while self._works and not (last and last.done):
            self.run_next()
        errors.check()

    def run_next(self):
        work = self._works[0]
        for other in work.after:
            other.queue.finish(other)
        if work.done:  # what it waited for can have led back here
            return
        self._works.popleft()
        if not self._works:
            _pending.pop(self, None)
        work.done, work.after = True, ()
        work.run()


def finish_all():
    """Run all work of the device."""
    while _pending:
        next(iter(_pending)).finish()
    errors.check()


def topological(nodes, last):
    """The nodes of a graph in an order that the policy chooses.

    ``nodes`` have ``after``, those that they wait for. By "late", what only the last nodes need runs last.
    """
    if policy == "early":
        return list(nodes)
    if policy == "late":
        return _as_needed(last)
    order, left = {}, list(nodes)
    while left:
        ready = [node for node in left if all(other in order for other in node.after)]
        node = _dice.choice(ready)
        order[node] = None
        left.remove(node)
    return list(order)


def _as_needed(last):
    order, stack = {}, list(reversed(last))
    while stack:
        waits = [other for other in stack[-1].after if other not in order]
        if waits:
            stack.append(waits[0])
        else:
            order[stack.pop()] = None
    return list(order)


def _run_some():
    burst = _dice.randrange(40) if _dice.random() < 0.1 else 0
    while _pending and burst > 0:
        _dice.choice(list(_pending)).run_next()
        burst -= 1
