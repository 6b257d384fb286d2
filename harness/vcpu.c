/* Two sides, the virtual CPU's and the loop's, and a queue each way: vcpu.h. */
#include "harness/vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct queue { /* of requests, oldest first; guarded by vcpu.queue */
    struct guest_req *head, **tail;
};

struct vcpu {
    struct vcpu_options o;
    struct env *env;
    struct env_thread thread;
    struct env_mutex global, queue;
    struct queue completed, submitted;
    struct loop_bh take;  /* on the loop: what was submitted goes to the strategy */
    struct loop_bh ended; /* on the loop: nothing is in flight */
    bool taking;          /* take is posted; guarded by queue */
    bool go;              /* the load may begin; guarded by queue */
    bool over, idle_over; /* the loop's */
    /* The virtual CPU's own. Simulated, to compute is to sleep until a timer rings. */
    struct loop *clock;
    struct loop_timer timer;
    bool rung;
};

static void push(struct queue *q, struct guest_req *r)
{
    r->next = NULL;
    *q->tail = r;
    q->tail = &r->next;
}

static struct guest_req *pop_all(struct vcpu *v, struct queue *q)
{
    env_mutex_lock(v->env, &v->queue);
    struct guest_req *all = q->head;
    q->head = NULL;
    q->tail = &q->head;
    env_mutex_unlock(v->env, &v->queue);
    return all;
}

/* ---- on the virtual CPU ---- */

static void ring(struct loop_timer *timer)
{
    ((struct vcpu *)((char *)timer - __builtin_offsetof(struct vcpu, timer)))->rung =
        true;
}

static void compute(struct vcpu *v, uint64_t until_ns)
{
    if (!v->env->simulated) {
        while (env_now_ns(v->env) < until_ns)
            ;
        return;
    }
    v->rung = false;
    v->timer.fn = ring;
    loop_timer_arm(v->clock, &v->timer, until_ns);
    loop_run_until(v->clock, &v->rung);
}

void vcpu_submit(struct vcpu *v, struct guest_req *r)
{
    env_mutex_lock(v->env, &v->queue);
    push(&v->submitted, r);
    bool post = !v->taking;
    v->taking = true;
    env_mutex_unlock(v->env, &v->queue);
    if (post)
        loop_post(v->o.loop, &v->take);
}

/* Computes until a tick is due, takes the mutex; returns how late it got it. */
static uint64_t tick(struct vcpu *v, uint64_t *due_ns)
{
    uint64_t now = env_now_ns(v->env);

    *due_ns = *due_ns + v->o.tick_ns > now ? *due_ns + v->o.tick_ns : now;
    compute(v, *due_ns);
    env_mutex_lock(v->env, &v->global);
    return env_now_ns(v->env) - *due_ns;
}

static bool may_go(struct vcpu *v)
{
    env_mutex_lock(v->env, &v->queue);
    bool go = v->go;
    env_mutex_unlock(v->env, &v->queue);
    return go;
}

static void run(void *opaque)
{
    struct vcpu *v = opaque;
    uint64_t due = env_now_ns(v->env), idle_end = due + VCPU_IDLE_NS;
    bool more = true, begun = false;

    while (due < idle_end) {
        hist_add(v->o.idle, tick(v, &due));
        env_mutex_unlock(v->env, &v->global);
    }
    loop_post(v->o.loop, &v->ended);
    while (more) {
        uint64_t late = tick(v, &due);
        if (!begun && !may_go(v)) {
            env_mutex_unlock(v->env, &v->global);
            continue;
        }
        hist_add(v->o.late, late);
        if (!begun)
            more = v->o.begin(v->o.opaque);
        begun = true;
        struct guest_req *next, *r = pop_all(v, &v->completed);
        for (; r; r = next) {
            next = r->next;
            more = v->o.completed(v->o.opaque, r);
        }
        env_mutex_unlock(v->env, &v->global);
    }
    loop_post(v->o.loop, &v->ended);
}

/* ---- on the loop ---- */

static void take(struct loop_bh *bh)
{
    struct vcpu *v =
        (struct vcpu *)((char *)bh - __builtin_offsetof(struct vcpu, take));

    env_mutex_lock(v->env, &v->queue);
    v->taking = false;
    env_mutex_unlock(v->env, &v->queue);
    struct guest_req *next, *r = pop_all(v, &v->submitted);
    for (; r; r = next) {
        next = r->next;
        v->o.strategy->submit(v->o.image, r);
    }
}

void vcpu_complete(struct vcpu *v, struct guest_req *r)
{
    env_mutex_lock(v->env, &v->queue);
    push(&v->completed, r);
    env_mutex_unlock(v->env, &v->queue);
}

static void ended(struct loop_bh *bh)
{
    struct vcpu *v =
        (struct vcpu *)((char *)bh - __builtin_offsetof(struct vcpu, ended));
    bool *flag = v->idle_over ? &v->over : &v->idle_over;
    *flag = true;
}

static void sleeps(void *opaque, bool asleep)
{
    struct vcpu *v = opaque;
    if (asleep)
        env_mutex_unlock(v->env, &v->global);
    else
        env_mutex_lock(v->env, &v->global);
}

static void destroy(struct vcpu *v)
{
    loop_destroy(v->clock);
    env_mutex_destroy(&v->global);
    env_mutex_destroy(&v->queue);
    free(v);
}

int vcpu_start(struct vcpu **out, const struct vcpu_options *o, struct error *err)
{
    struct vcpu *v = calloc(1, sizeof(*v));
    int ret;

    if (!v)
        return error_set(err, -ENOMEM, "out of memory");
    v->o = *o;
    v->env = loop_env(o->loop);
    v->completed.tail = &v->completed.head;
    v->submitted.tail = &v->submitted.head;
    v->take.fn = take;
    v->ended.fn = ended;
    env_mutex_init(&v->global);
    env_mutex_init(&v->queue);
    ret = v->env->simulated ? loop_create(&v->clock, v->env,
                                          &(struct loop_options){.engine = "sim"}, err)
                            : 0;
    *out = v; /* begin() uses it */
    if (!ret && (ret = env_thread_start(v->env, &v->thread, run, v)) < 0)
        error_set(err, ret, "virtual CPU: cannot start its thread: %s", strerror(-ret));
    if (ret < 0) {
        destroy(v);
        *out = NULL;
        return ret;
    }
    loop_run_until(o->loop, &v->idle_over);
    if (o->mode == VCPU_LOOP) {
        env_mutex_lock(v->env, &v->global);
        loop_set_sleep_hook(o->loop, sleeps, v);
    }
    return 0;
}

void vcpu_finish(struct vcpu *v)
{
    env_mutex_lock(v->env, &v->queue);
    v->go = true;
    env_mutex_unlock(v->env, &v->queue);
    loop_run_until(v->o.loop, &v->over);
    if (v->o.mode == VCPU_LOOP) {
        loop_set_sleep_hook(v->o.loop, NULL, NULL);
        env_mutex_unlock(v->env, &v->global);
    }
    env_thread_join(v->env, &v->thread);
    destroy(v);
}
