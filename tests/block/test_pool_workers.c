/*
 * The pool behind the engine threads: who runs which job, in which order, how many
 * workers there are. The jobs block until they are let go, so nothing here depends on
 * time.
 */
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "core/block/pool.h"
#include "tests/block/block_test.h"

enum { JOBS = 12 };

struct job {
    struct loop_bh bh;
    unsigned number;
    sem_t begun, go;
    pthread_t ran_on;
    unsigned place; /* in the order in which they began */
};
static struct job jobs[JOBS];
static atomic_uint began, ended;

static void run(struct loop_bh *bh)
{
    struct job *j = (struct job *)bh;

    j->ran_on = pthread_self();
    j->place = atomic_fetch_add(&began, 1);
    sem_post(&j->begun);
    sem_wait(&j->go);
    atomic_fetch_add(&ended, 1);
}

static struct pool *open_pool(const struct pool_options *o)
{
    struct pool *p;

    began = ended = 0;
    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i].bh.fn = run;
        jobs[i].number = i;
        sem_init(&jobs[i].begun, 0, 0);
        sem_init(&jobs[i].go, 0, 0);
    }
    MUST(pool_open(&p, test_env, o));
    return p;
}

/* As one chain. */
static void submit(struct pool *p, unsigned from, unsigned n)
{
    for (unsigned i = from; i + 1 < from + n; i++)
        jobs[i].bh.next = &jobs[i + 1].bh;
    pool_submit(p, &jobs[from].bh, &jobs[from + n - 1].bh);
}

static void let_go(unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++)
        sem_post(&jobs[i].go);
}

static bool has_begun(unsigned i)
{
    bool yes = sem_trywait(&jobs[i].begun) == 0;

    if (yes)
        sem_post(&jobs[i].begun);
    return yes;
}

/* With one worker, the order is that of submission, whatever comes when. */
static void one_worker_keeps_order(void **state)
{
    struct pool *p = open_pool(&(struct pool_options){.workers = 1});

    (void)state;
    submit(p, 0, 3);
    submit(p, 3, 1);
    submit(p, 4, JOBS - 4);
    let_go(0, JOBS);
    pool_close(p);
    for (unsigned i = 0; i < JOBS; i++)
        assert_int_equal(jobs[i].place, i);
}

/* Job 0 keeps a worker; the other one does all the rest. */
static void who_is_free_takes_the_oldest(void **state)
{
    struct pool *p = open_pool(&(struct pool_options){.workers = 2});

    (void)state;
    let_go(1, JOBS - 1);
    submit(p, 0, JOBS);
    for (unsigned i = 0; i < JOBS; i++)
        sem_wait(&jobs[i].begun);
    let_go(0, 1);
    pool_close(p);
    for (unsigned i = 2; i < JOBS; i++) {
        assert_true(pthread_equal(jobs[i].ran_on, jobs[1].ran_on));
        assert_true(jobs[i].place > jobs[i - 1].place);
    }
}

/* Job 0 keeps a worker; those bound to it wait, though the other one has nothing to
 * do. */
static void bound_jobs_wait_for_their_worker(void **state)
{
    struct pool *p = open_pool(&(struct pool_options){.workers = 2, .bound = true});

    (void)state;
    let_go(1, JOBS - 1);
    submit(p, 0, JOBS);
    sem_wait(&jobs[0].begun);
    for (unsigned i = 1; i < JOBS; i += 2) {
        sem_wait(&jobs[i].begun);
        assert_true(pthread_equal(jobs[i].ran_on, jobs[1].ran_on));
    }
    for (unsigned i = 2; i < JOBS; i += 2)
        assert_false(has_begun(i));
    let_go(0, 1);
    for (unsigned i = 2; i < JOBS; i += 2) {
        sem_wait(&jobs[i].begun);
        assert_true(pthread_equal(jobs[i].ran_on, jobs[0].ran_on));
    }
    pool_close(p);
}

static void bound_jobs_can_be_withdrawn(void **state)
{
    struct pool *p = open_pool(&(struct pool_options){.workers = 2, .bound = true});

    (void)state;
    submit(p, 0, 6);
    sem_wait(&jobs[0].begun);
    sem_wait(&jobs[1].begun);
    assert_false(pool_withdraw(p, &jobs[1].bh));
    assert_true(pool_withdraw(p, &jobs[5].bh));
    assert_true(pool_withdraw(p, &jobs[2].bh));
    let_go(0, 6);
    pool_close(p);
    assert_int_equal(ended, 4);
}

static void a_fixed_pool_is_all_there(void **state)
{
    struct pool *p = open_pool(&(struct pool_options){.workers = 5});

    (void)state;
    assert_int_equal(pool_workers(p), 5);
    pool_close(p);
}

/* One worker more for each job that finds all busy, up to the bound; and down again. */
static void an_elastic_pool_grows_and_shrinks(void **state)
{
    struct pool_options o = {.workers = 4, .idle_ns = 1000000};
    struct pool *p = open_pool(&o);

    (void)state;
    assert_int_equal(pool_workers(p), 1);
    for (unsigned round = 0; round < 3; round++) {
        began = ended = 0;
        submit(p, 0, JOBS / 2); /* at once */
        for (unsigned i = JOBS / 2; i < JOBS; i++)
            submit(p, i, 1); /* and one by one */
        for (unsigned i = 0; i < 4; i++)
            sem_wait(&jobs[i].begun);
        assert_int_equal(pool_workers(p), 4);
        assert_int_equal(began, 4);
        let_go(0, JOBS);
        for (unsigned i = 4; i < JOBS; i++)
            sem_wait(&jobs[i].begun);
        while (ended < JOBS || pool_workers(p) > 1) /* idle time comes to an end */
            usleep(1000);
    }
    pool_close(p);
}

static void an_elastic_pool_closes_while_growing(void **state)
{
    struct pool_options o = {.workers = 8, .idle_ns = 1};

    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        struct pool *p = open_pool(&o);

        let_go(0, JOBS);
        submit(p, 0, JOBS);
        pool_close(p);
        assert_int_equal(ended, JOBS);
    }
}

/* ---- the engine's settings ---- */

static unsigned threads_here(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned n = 0;

    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));)
        n += d->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void settings_reach_the_pool(void **state)
{
    struct loop_options o = {.engine = "threads", .depth = 16, .workers = 5};
    unsigned before = threads_here();
    struct error err = {""};
    struct loop *loop;

    (void)state;
    MUST(loop_create(&loop, test_env, &o, &test_err));
    assert_int_equal(threads_here(), before + 5);
    loop_destroy(loop);
    while (threads_here() > before) /* joined, but the kernel may still list them */
        usleep(1000);
    o.engine = "threads:pool=elastic";
    MUST(loop_create(&loop, test_env, &o, &test_err));
    assert_int_equal(threads_here(), before + 1);
    loop_destroy(loop);
    o.engine = "threads:pool=elastic,order=bound";
    assert_int_equal(loop_create(&loop, test_env, &o, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "order=fifo can"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_worker_keeps_order),
        cmocka_unit_test(who_is_free_takes_the_oldest),
        cmocka_unit_test(bound_jobs_wait_for_their_worker),
        cmocka_unit_test(bound_jobs_can_be_withdrawn),
        cmocka_unit_test(a_fixed_pool_is_all_there),
        cmocka_unit_test(an_elastic_pool_grows_and_shrinks),
        cmocka_unit_test(an_elastic_pool_closes_while_growing),
        cmocka_unit_test(settings_reach_the_pool),
    };

    return cmocka_run_group_tests(tests, test_begin, test_end);
}
