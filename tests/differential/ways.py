"""The ways to run a strategy beside its usual ones, for the suites that run each of them."""

WAYS = [
    'coroutines:lock=serialize', 'coroutines:lock=big', 'coroutines:lock=big-held',
    'coroutines:lock=rwlock', 'coroutines:lock=rwlock,hold=metadata',
    'coroutines:lock=entry', 'coroutines:lock=entry,hold=metadata', 'coroutines:lock=none',
    'coroutines:fastpath=on', 'coroutines:lock=rwlock,fastpath=on,hold=metadata',
    'coroutines:backend=ucontext,pool=2', 'coroutines:backend=thread,pool=0',
    'callbacks:metadata=sync',
    'threadpool:lock=rwlock,idle=spin', 'threadpool:hold=metadata,mutex=fair',
    'threadpool:wait=park,workers=2,idle=spin',
    'threadpool:hold=metadata,lock=rwlock,mutex=fair,wait=park',
    'freeze-thaw:completions=deferred', 'freeze-thaw:freeze=whole',
]
