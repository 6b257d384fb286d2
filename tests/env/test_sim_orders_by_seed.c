/*
 * Intent: in the simulated world the seed and nothing else decides the order of things:
 * the same seed repeats it, others give others; mutexes exclude; time goes by events
 * and never back; who waits for ever is told so. ASYNCOW_SEED sets the first seed.
 */
#include "core/coroutine/coroutine.h"
#include "core/env/sim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t seed0 = 1;
static struct env *env;
static char trace[4096];
static size_t trace_n;

static void note(char c)
{
    assert_true(trace_n + 1 < sizeof(trace));
    trace[trace_n++] = c;
    trace[trace_n] = 0;
}

static void start(uint64_t seed)
{
    env = env_sim(seed);
    trace_n = 0;
    trace[0] = 0;
}

/* --- threads, a mutex, a condition: a bounded buffer ------------------------------ */

static struct env_mutex mutex;
static struct env_cond not_empty, not_full;
static int buffer, in_buffer, inside;

static void enter(void)
{
    env_mutex_lock(env, &mutex);
    assert_int_equal(inside++, 0);
}

static void leave(void)
{
    assert_int_equal(--inside, 0);
    env_mutex_unlock(env, &mutex);
}

static void sleep_on(struct env_cond *c)
{
    inside--;
    env_cond_wait(env, c, &mutex);
    assert_int_equal(inside++, 0);
}

static void produces(void *arg)
{
    for (int i = 0; i < 5; i++) {
        enter();
        while (in_buffer)
            sleep_on(&not_full);
        in_buffer = 1;
        buffer = *(char *)arg;
        env_cond_signal(env, &not_empty);
        leave();
    }
}

static void consumes(void *arg)
{
    for (int i = 0; i < *(int *)arg; i++) {
        enter();
        while (!in_buffer)
            sleep_on(&not_empty);
        in_buffer = 0;
        note((char)buffer);
        env_cond_broadcast(env, &not_full);
        leave();
    }
}

/* Three producers; a thread and the root consume, so that the root contends too. */
static uint64_t run_buffer(uint64_t seed)
{
    struct env_thread t[4];
    int theirs = 7, ours = 8;

    start(seed);
    env_mutex_init(&mutex);
    env_cond_init(&not_empty);
    env_cond_init(&not_full);
    for (int i = 0; i < 3; i++)
        assert_int_equal(env_thread_start(env, &t[i], produces, &"abc"[i]), 0);
    assert_int_equal(env_thread_start(env, &t[3], consumes, &theirs), 0);
    consumes(&ours);
    for (int i = 0; i < 4; i++)
        env_thread_join(env, &t[i]);
    assert_int_equal(trace_n, 15);
    uint64_t hash = sim_trace_hash(env);
    env_mutex_destroy(&mutex);
    env_cond_destroy(&not_empty);
    env_cond_destroy(&not_full);
    env_destroy(env);
    return hash;
}

static void same_seed_same_trace(void **state)
{
    (void)state;
    for (uint64_t seed = seed0; seed < seed0 + 50; seed++) {
        char first[sizeof(trace)];
        uint64_t hash = run_buffer(seed);
        strcpy(first, trace);
        assert_int_equal(run_buffer(seed), hash);
        assert_string_equal(trace, first);
    }
}

/* --- a lock that is shared or not ------------------------------------------------- */

static struct env_rwlock rwlock;
static int sharing, sharing_max, writing;

static void reads(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        env_rwlock_shared(env, &rwlock);
        assert_int_equal(writing, 0);
        sharing++;
        sharing_max = sharing > sharing_max ? sharing : sharing_max;
        sim_poll(env);
        assert_int_equal(writing, 0);
        sharing--;
        env_rwlock_unlock(env, &rwlock);
    }
}

static void writes(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        env_rwlock_exclusive(env, &rwlock);
        assert_int_equal(writing++ + sharing, 0);
        sim_poll(env);
        assert_int_equal(writing-- - 1 + sharing, 0);
        env_rwlock_unlock(env, &rwlock);
    }
}

static void readers_share_and_writers_are_alone(void **state)
{
    (void)state;
    struct env_thread t[5];

    for (uint64_t seed = seed0; seed < seed0 + 50; seed++) {
        start(seed);
        env_rwlock_init(&rwlock);
        for (int i = 0; i < 5; i++)
            env_thread_start(env, &t[i], i % 2 ? writes : reads, NULL);
        for (int i = 0; i < 5; i++)
            env_thread_join(env, &t[i]);
        env_rwlock_destroy(&rwlock);
        env_destroy(env);
    }
    assert_int_equal(sharing_max, 3); /* all readers, under some seed */
}

static void seeds_differ_in_order(void **state)
{
    (void)state;
    static char seen[200][16];
    unsigned distinct = 0;

    for (uint64_t i = 0; i < 200; i++) {
        run_buffer(seed0 + i);
        unsigned j;
        for (j = 0; j < distinct && strcmp(seen[j], trace); j++)
            ;
        if (j == distinct)
            strcpy(seen[distinct++], trace);
    }
    print_message("seed %llu: %u orders out of 200 runs\n", (unsigned long long)seed0,
                  distinct);
    assert_true(distinct > 100);
}

static unsigned always_first(void *opaque, unsigned n)
{
    ++*(unsigned *)opaque;
    assert_true(n > 1);
    return 0;
}

static void notes_thrice(void *arg)
{
    for (int i = 0; i < 3; i++) {
        env_mutex_lock(env, &mutex);
        note(*(char *)arg);
        env_mutex_unlock(env, &mutex);
    }
}

static void run_notes(uint64_t seed, unsigned (*chooser)(void *, unsigned),
                      unsigned *calls)
{
    struct env_thread a, b;

    start(seed);
    if (chooser)
        sim_set_chooser(env, chooser, calls);
    env_mutex_init(&mutex);
    env_thread_start(env, &a, notes_thrice, "a");
    env_thread_start(env, &b, notes_thrice, "b");
    env_thread_join(env, &a);
    env_thread_join(env, &b);
    env_mutex_destroy(&mutex);
    env_destroy(env);
}

static void first_choice_is_no_preemption(void **state)
{
    (void)state;
    unsigned calls = 0;

    run_notes(seed0, always_first, &calls);
    assert_string_equal(trace, "aaabbb");
    assert_true(calls > 0);
}

/* All C(6,3) = 20 orders of two threads' three sections each can come. */
static void every_order_comes(void **state)
{
    (void)state;
    bool seen[64] = {false};
    unsigned distinct = 0;

    for (uint64_t i = 0; i < 2000 && distinct < 20; i++) {
        run_notes(seed0 + i, NULL, NULL);
        unsigned key = 0;
        for (int k = 0; k < 6; k++)
            key = 2 * key + (trace[k] == 'b');
        distinct += !seen[key];
        seen[key] = true;
    }
    assert_int_equal(distinct, 20);
}

/* --- time ------------------------------------------------------------------------- */

struct tick {
    struct sim_event ev;
    char name;
    struct sim_gate *gate;
};

static void ticks(struct sim_event *ev)
{
    struct tick *t = (struct tick *)ev;

    assert_true(env_now_ns(env) >= ev->when_ns);
    note(t->name);
    if (t->gate)
        sim_gate_open(env, t->gate);
}

static void events_fire_in_order_of_time(void **state)
{
    (void)state;
    struct sim_gate gate = {0};
    struct tick t[26];

    start(seed0);
    memset(t, 0, sizeof(t));
    for (unsigned i = 0; i < 26; i++) {
        unsigned k = i * 7 % 26; /* in a scattered order */
        t[k].ev.fn = ticks;
        t[k].name = (char)('a' + k);
        sim_schedule(env, &t[k].ev, 1000 * (k + 1));
        assert_true(sim_scheduled(&t[k].ev));
    }
    t[25].gate = &gate;
    assert_true(sim_cancel(env, &t[3].ev));
    assert_false(sim_cancel(env, &t[3].ev));
    sim_schedule(env, &t[0].ev, 5500); /* moves it */
    assert_int_equal(env_now_ns(env), 0);
    sim_gate_wait(env, &gate, "test");
    assert_int_equal(env_now_ns(env), 26000);
    assert_string_equal(trace, "bceafghijklmnopqrstuvwxyz");
    assert_false(gate.open);
    env_destroy(env);
}

static void ties_fall_by_seed(void **state)
{
    (void)state;
    bool seen[3] = {false};

    for (uint64_t i = 0; i < 50; i++) {
        struct sim_gate gate = {0};
        struct tick t[3] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}};
        start(seed0 + i);
        struct tick end = {.ev.fn = ticks, .name = '.', .gate = &gate};
        for (int k = 0; k < 3; k++) {
            t[k].ev.fn = ticks;
            sim_schedule(env, &t[k].ev, 10);
        }
        sim_schedule(env, &end.ev, 11);
        sim_gate_wait(env, &gate, "test");
        assert_int_equal(trace_n, 4);
        assert_int_equal(trace[3], '.');
        seen[trace[0] - 'a'] = true;
        env_destroy(env);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
}

static void waits_at_gate(void *arg)
{
    struct tick *t = arg;

    sim_gate_wait(env, t->gate, "its gate");
    assert_true(sim_in_thread(env));
    note((char)(t->name - 'a' + 'A'));
}

static void gates_hold_threads_and_the_root_alike(void **state)
{
    (void)state;
    struct sim_gate gate[3] = {{0}};
    struct env_thread thread[2];
    struct tick t[3];

    start(seed0);
    memset(t, 0, sizeof(t));
    for (unsigned i = 0; i < 3; i++) {
        t[i] = (struct tick){.ev.fn = ticks, .name = (char)('a' + i), .gate = &gate[i]};
        sim_schedule(env, &t[i].ev, 100 * (i + 1));
    }
    for (int i = 0; i < 2; i++)
        env_thread_start(env, &thread[i], waits_at_gate, &t[i]);
    sim_gate_wait(env, &gate[2], "the root's gate");
    assert_false(sim_in_thread(env));
    assert_string_equal(trace, "aAbBc");
    for (int i = 0; i < 2; i++)
        env_thread_join(env, &thread[i]);
    env_destroy(env);
}

static void polling_lets_time_pass(void **state)
{
    (void)state;
    struct tick t = {.ev.fn = ticks, .name = 'a'};

    start(seed0);
    sim_schedule(env, &t.ev, 50 * SIM_POLL_NS);
    while (!trace_n)
        sim_poll(env);
    assert_true(env_now_ns(env) >= 50 * SIM_POLL_NS);
    env_step(env, 7);
    assert_int_equal(env_now_ns(env) % SIM_POLL_NS, 7);
    env_destroy(env);
}

/* --- coroutines in simulated threads ---------------------------------------------- */

static void locks_in_coroutine(void *arg)
{
    assert_true(co_in());
    env_mutex_lock(env, &mutex); /* held by the root: the whole thread waits here */
    note(*(char *)arg);
    env_mutex_unlock(env, &mutex);
    co_wake(co_self());
    co_yield ();
    note(*(char *)arg);
}

static void has_coroutines(void *arg)
{
    assert_false(co_in());
    struct co *co = co_create(locks_in_coroutine, arg);
    assert_false(co_has_ready());
    co_enter(co);
    note('<');
    assert_true(co_run_ready());
    note('>');
    assert_false(co_has_ready());
}

static void root_coroutine(void *arg)
{
    struct env_thread *t = arg;

    env_mutex_lock(env, &mutex);
    env_thread_start(env, &t[0], has_coroutines, "a");
    env_thread_start(env, &t[1], has_coroutines, "b");
    for (int i = 0; i < 50; i++)
        sim_poll(env);
    assert_int_equal(trace_n, 0);
    env_mutex_unlock(env, &mutex);
    env_thread_join(env, &t[0]);
    env_thread_join(env, &t[1]);
}

static void each_thread_has_its_own_coroutines(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        struct env_thread t[2];
        start(seed0 + i);
        env_mutex_init(&mutex);
        co_enter(co_create(root_coroutine, t));
        assert_int_equal(trace_n, 8);
        env_mutex_destroy(&mutex);
        env_destroy(env);
    }
}

/* --- random streams --------------------------------------------------------------- */

static void streams_are_apart(void **state)
{
    (void)state;
    uint64_t first[3];

    start(seed0);
    first[0] = env_random(env), first[1] = sim_random(env);
    first[2] = env_choose(env, 1u << 30);
    env_destroy(env);
    start(seed0);
    for (int i = 0; i < 10; i++)
        sim_random(env);
    assert_int_equal(env_random(env), first[0]);
    assert_int_equal(env_choose(env, 1u << 30), first[2]);
    env_destroy(env);
    start(seed0);
    assert_int_equal(sim_random(env), first[1]);
    env_destroy(env);
}

/* --- deadlock --------------------------------------------------------------------- */

static struct env_mutex other;

static void locks_other_way(void *arg)
{
    (void)arg;
    env_mutex_lock(env, &other);
    sim_poll(env);
    env_mutex_lock(env, &mutex);
}

static unsigned last(void *opaque, unsigned n)
{
    (void)opaque;
    return n - 1;
}

static void deadlock_names_who_waits(void **state)
{
    (void)state;
    char text[1024] = "";
    int fds[2], status;

    co_pool_drain(); /* TSan takes fibres for threads, and mistrusts a fork with threads */
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit none = {0, 0};
        struct env_thread t;
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        start(seed0);
        sim_set_chooser(env, last, NULL);
        env_mutex_init(&mutex);
        env_mutex_init(&other);
        env_mutex_lock(env, &mutex);
        env_thread_start(env, &t, locks_other_way, NULL);
        sim_poll(env);
        env_mutex_lock(env, &other);
        _exit(0);
    }
    close(fds[1]);
    size_t n = 0;
    for (ssize_t got; n < sizeof(text) - 1 &&
                      (got = read(fds[0], text + n, sizeof(text) - 1 - n)) > 0;)
        n += (size_t)got;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "deadlock"));
    assert_non_null(strstr(text, "thread 1 waits for mutex"));
    assert_non_null(strstr(text, "held by the root"));
    assert_non_null(strstr(text, "the root waits for mutex"));
    assert_non_null(strstr(text, "held by thread 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_trace),
        cmocka_unit_test(readers_share_and_writers_are_alone),
        cmocka_unit_test(seeds_differ_in_order),
        cmocka_unit_test(first_choice_is_no_preemption),
        cmocka_unit_test(every_order_comes),
        cmocka_unit_test(events_fire_in_order_of_time),
        cmocka_unit_test(ties_fall_by_seed),
        cmocka_unit_test(gates_hold_threads_and_the_root_alike),
        cmocka_unit_test(polling_lets_time_pass),
        cmocka_unit_test(each_thread_has_its_own_coroutines),
        cmocka_unit_test(streams_are_apart),
        cmocka_unit_test(deadlock_names_who_waits),
    };
    if (getenv("ASYNCOW_SEED"))
        seed0 = strtoull(getenv("ASYNCOW_SEED"), NULL, 0);
    print_message("ASYNCOW_SEED=%llu\n", (unsigned long long)seed0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
