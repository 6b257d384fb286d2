/* The measured process, and the parent that waits for it: trial.h. */
#include "harness/trial.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/env/env.h"
#include "harness/lanes.h"
#include "harness/machine.h"
#include "harness/result.h"
#include "harness/session.h"
#include "harness/stall.h"

/* ---- signals ---- */

static volatile int stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

/* timeout(1) sends SIGTERM to its child and then to the whole group, so that one wish
 * to stop may come more than once. Only a second Ctrl-C is impatience. */
void trial_catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    sa.sa_flags = SA_RESETHAND;
    sigaction(SIGINT, &sa, NULL);
}

/* The same wish reaches a trial from the terminal or the group and from its parent.
 * What is impatient ends the parent, and with it the trial. */
static void catch_signals_in_trial(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    sigaction(SIGINT, &sa, NULL);
}

bool trial_signalled(void) { return stop_asked; }

/* ---- in the measured process ---- */

struct shared { /* one page, written by the trial, read by the progress line */
    volatile uint64_t requests, goal;
    volatile uint64_t job, begun;
};

/* Counters when measuring began; the result has the difference. */
struct baseline {
    struct session *session;
    struct counters at;
};

static void count(struct session *s, struct counters *c)
{
    usage_now(&c->usage);
    session_sim(s, &c->sim);
    session_io(s, &c->io);
    session_delay(s, &c->delay);
    loop_get_stats(s->loop, &c->loop);
    c->strategy = (struct strategy_stats){0};
    s->module.table->stats(s->image, &c->strategy);
}

static void on_start(void *opaque)
{
    struct baseline *b = opaque;
    count(b->session, &b->at);
}

/* The core says no more than EIO of what it refuses; it knows why. */
static void add_reason(struct error *err, const struct strategy_stats *s)
{
    size_t n = strlen(err->msg);

    if (s->complaint.what)
        snprintf(err->msg + n, sizeof(err->msg) - n,
                 "; %s: damaged metadata: %s %llu: %s (`asyncow img check` tells more)",
                 s->complaint_file, s->complaint.what,
                 (unsigned long long)s->complaint.value, s->complaint.problem);
    else if (s->poisoned)
        snprintf(err->msg + n, sizeof(err->msg) - n,
                 "; writing metadata failed before, so nothing more is written");
}

/* What is read back after the load, and the verdict on it; ret: how the load ended. */
static int read_back(struct load *l, const struct job *j, struct result *r, int ret,
                     struct error *err)
{
    if (!ret && j->verify && j->do_verify && j->rw.write && !r->load->interrupted) {
        ret = load_verify(l, r->verify_load);
        if (ret < 0 && ret != -EILSEQ)
            error_set(err, ret, "verify: %s", r->verify_load->error_text);
    }
    if (load_verified(l)) {
        r->verify = *load_verified(l);
        r->verify.last = NULL;
        if (r->verify.bad)
            ret = error_set(err, -EILSEQ,
                            "verify: %llu of %llu blocks are bad; first: %s",
                            (unsigned long long)r->verify.bad,
                            (unsigned long long)r->verify.checked, r->verify.first_bad);
    }
    if (!ret && j->verify_content) {
        ret = load_content(l, &r->content_crc);
        r->content = !ret;
        if (ret < 0)
            error_set(err, ret, "verify-content: %s", strerror(-ret));
    }
    return ret;
}

/* The load, and what is read back after it. */
static int run_load(struct session *s, const struct trial *t, const struct job *j,
                    struct shared *shared, struct result *r, struct error *err)
{
    struct baseline base = {.session = s};
    struct load_options o = {.loop = s->loop,
                             .homes = 1,
                             .strategy = s->module.table,
                             .image = s->image,
                             .job = j,
                             .disk_size = s->top->size,
                             .seed = (j->randseed_set ? j->randseed : t->run->seed) +
                                     t->round,
                             .guest = s->model.guest_queue ? &s->model : NULL,
                             .on_start = on_start,
                             .opaque = &base,
                             .progress = &shared->requests,
                             .goal = &shared->goal,
                             .stop = &stop_asked};
    struct lanes lanes = {.heartbeat = t->heartbeat, .turn_probe = t->run->turn_probe};
    int ret = lanes_open(&lanes, s, &o, r->load, r->stall, err);

    if (ret < 0)
        return ret;
    r->seed = o.seed;
    shared->begun = 1;
    if (j->verify_only)
        on_start(&base);
    else
        ret = lanes_run(&lanes);
    count(s, &r->counters);
    counters_since(&r->counters, &base.at);
    load_queue_stats(lanes_first(&lanes), &r->guest);
    result_lanes(r, &lanes);
    if (ret < 0) {
        error_set(err, ret, "%s", r->load->error_text);
        add_reason(err, &r->counters.strategy);
    }
    ret = read_back(lanes_first(&lanes), j, r, ret, err);
    s->module.table->drain_begin(s->image);
    s->module.table->drain_end(s->image);
    lanes_close(&lanes);
    return ret;
}

static int run_session(struct env *env, const struct trial *t, unsigned index,
                       struct shared *shared, struct result *r, struct error *err)
{
    const struct job *j = &t->jobs->job[index];
    struct session s;
    struct blk_stats before, after;
    int ret = session_open(&s, env, j, t->spec, t->paths[index], err), close_ret;

    if (ret < 0)
        return ret;
    snprintf(r->engine, sizeof(r->engine), "%s", loop_engine(s.loop));
    r->disk_size = s.top->size;
    r->costly = env->simulated && sim_costs_set(env);
    r->disk = env->simulated && s.model.kind == SIM_DISK;
    r->guest_queue = s.model.guest_queue;
    ret = run_load(&s, t, j, shared, r, err);
    snprintf(r->engine_notes, sizeof(r->engine_notes), "%s", loop_notes(s.loop));
    /* What write-back still owed: closing pays for it, so it is told apart. */
    session_io(&s, &before);
    uint64_t begin = env_now_ns(env);
    close_ret = s.module.table->close(s.image);
    s.image = NULL;
    r->close_ns = env_now_ns(env) - begin;
    session_io(&s, &after);
    for (int op = 0; op < AIO_OPS; op++)
        r->close_ios += after.ios[op] - before.ios[op];
    int rest = session_close(&s);
    if (!close_ret)
        close_ret = rest;
    if (!ret && close_ret)
        ret = error_set(err, close_ret, "closing the image: %s", strerror(-close_ret));
    return ret;
}

static json_t *run_job(struct env *env, const struct trial *t, unsigned index,
                       struct shared *shared, bool *failed)
{
    const struct job *j = &t->jobs->job[index];
    struct error err = {""};
    struct result *r = result_new();
    int ret = -ENOMEM;

    if (r) {
        shared->job = index;
        shared->requests = shared->goal = shared->begun = 0;
        r->spin_ns = machine_spin_ns();
        uint64_t steal = machine_steal_ns();
        ret = run_session(env, t, index, shared, r, &err);
        r->steal_ns = machine_steal_ns() - steal;
    }
    *failed = ret < 0;
    json_t *out = result_json(r, t, j, ret, &err);
    result_free(r);
    return out;
}

static json_t *run_jobs(const struct trial *t, struct shared *shared)
{
    struct env *env[2] = {NULL,
                          NULL}; /* the machine, the simulator: one each a trial */
    json_t *all = json_array();
    bool failed = false;

    for (unsigned i = 0; i < t->jobs->n && !failed && !stop_asked; i++) {
        const struct job *j = &t->jobs->job[i];
        bool sim = session_simulated(j);
        if (!env[sim])
            env[sim] = sim ? env_sim(t->run->seed + t->round)
                           : env_real(t->run->seed + t->round);
        if (j->invalidate && !sim)
            machine_drop_cache(t->paths[i]);
        json_array_append_new(all, run_job(env[sim], t, i, shared, &failed));
    }
    for (int i = 0; i < 2; i++)
        if (env[i])
            env_destroy(env[i]);
    return all;
}

/* ---- in the parent ---- */

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); /* for people's eyes alone */
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* "[2/10 callbacks] warm-read  54 %  1.2M requests  3 s left" */
static void progress(const struct trial *t, const struct shared *s, double began)
{
    const struct job *j = &t->jobs->job[s->job < t->jobs->n ? s->job : 0];
    double ran = seconds_now() - began, share = 0, timed = 0;

    if (j->runtime_ns)
        timed = ran / ((double)(j->runtime_ns + j->ramp_ns) / 1e9);
    if (s->goal)
        share = (double)s->requests / (double)s->goal;
    if (timed > share)
        share = timed;
    if (share > 1)
        share = 1;
    fprintf(stderr, "\r[%s] %s  %3.0f %%  %llu requests", t->label, j->name,
            share * 100, (unsigned long long)s->requests);
    if (share > 0.005)
        fprintf(stderr, "  %.0f s left", ran / share - ran);
    fputs("\033[K", stderr);
}

/* Reads the child's JSON to its end. */
static char *receive(const struct trial *t, const struct shared *s, int fd, pid_t child)
{
    bool draw = isatty(2) && !t->run->quiet;
    double began = 0;
    char *text = NULL;
    size_t size = 0, used = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, draw ? 250 : -1);
        if (stop_asked == 1) { /* a terminal tells the child itself, kill does not */
            stop_asked = 2;
            kill(child, SIGTERM);
        }
        if (draw && !ready && s->begun) {
            if (began <= 0)
                began = seconds_now();
            progress(t, s, began);
        }
        if (ready <= 0)
            continue;
        if (size - used < 65536) {
            char *more = realloc(text, size + (1 << 20));
            if (!more)
                break;
            text = more;
            size += 1 << 20;
        }
        ssize_t n = read(fd, text + used, size - used - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    if (draw)
        fputs("\r\033[K", stderr);
    if (text)
        text[used] = '\0';
    return text;
}

static __attribute__((noreturn)) void child(const struct trial *t, struct shared *s,
                                            int fd)
{
    json_t *all = run_jobs(t, s);
    char *text = json_dumps(all, JSON_COMPACT);
    size_t len = text ? strlen(text) : 0, sent = 0;

    while (sent < len) {
        ssize_t n = write(fd, text + sent, len - sent);
        if (n < 0 && errno != EINTR)
            break;
        sent += n > 0 ? (size_t)n : 0;
    }
    int bad = !len || sent < len;
    free(text);
    json_decref(all);
    close(fd);
    fflush(NULL);
    _exit(bad);
}

static json_t *forked(const struct trial *t, struct shared *s, struct error *err)
{
    json_error_t where;
    json_t *all = NULL;
    char *text = NULL;
    int fd[2], status = 0;

    if (pipe(fd) < 0) {
        error_set(err, -errno, "pipe: %s", strerror(errno));
        return NULL;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        /* Killed without warning, the parent could not tell us to give the image up. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        catch_signals_in_trial();
        close(fd[0]);
        child(t, s, fd[1]);
    }
    close(fd[1]);
    if (pid > 0) {
        text = receive(t, s, fd[0], pid);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close(fd[0]);
    if (pid < 0)
        error_set(err, -EAGAIN, "fork: %s", strerror(errno));
    else if (WIFSIGNALED(status))
        error_set(err, -ECHILD, "strategy %s: the trial's process was killed by %s",
                  t->spec, strsignal(WTERMSIG(status)));
    else if (!text || !(all = json_loads(text, 0, &where)))
        error_set(err, -ECHILD,
                  "strategy %s: the trial's process ended without a result", t->spec);
    free(text);
    return all;
}

json_t *trial_run(const struct trial *t, bool *interrupted, struct error *err)
{
    struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    json_t *all;

    if (s == MAP_FAILED) {
        error_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    all = t->run->no_fork ? run_jobs(t, s) : forked(t, s, err);
    munmap(s, sizeof(*s));
    *interrupted = stop_asked;
    return all;
}
