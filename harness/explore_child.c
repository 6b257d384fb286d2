/*
 * See explore_child.h. The outcome lies in memory that both processes see, the schedule
 * under way in it: so the parent knows it whatever becomes of the child.
 */
#include "harness/explore_child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness/explore_draw.h"

static struct explore_outcome *shared; /* this process's only search */
static struct explore_world *world;

__attribute__((noreturn)) static void leave(void)
{
    fflush(stdout);
    _exit(0); /* nothing to clean up: the image was memory */
}

static void stuck(void *opaque)
{
    (void)opaque;
    snprintf(shared->failure, sizeof(shared->failure),
             "deadlock: %u requests are pending, nothing can run and no I/O is in "
             "flight",
             explore_world_pending(world));
    shared->end = EXPLORE_FAILED;
    leave();
}

static bool out_of_budget(const struct explore_job *job, uint64_t schedules)
{
    return (job->schedules && schedules >= job->schedules) ||
           (job->deadline_ns && schedules % 16 == 0 && schedules &&
            env_now_ns(job->clock) >= job->deadline_ns);
}

static enum explore_end search_all(const struct explore_job *job,
                                   struct explore_search *search)
{
    while (explore_search_next(search, world)) {
        explore_search_count(search, &shared->count);
        if (out_of_budget(job, shared->count.schedules))
            return EXPLORE_CUT;
        if (!explore_world_run(world, explore_search_choose, search, shared->failure))
            return EXPLORE_FAILED;
    }
    return EXPLORE_COMPLETE;
}

__attribute__((noreturn)) static void child_main(const struct explore_job *job)
{
    struct explore_search *search;
    struct error err = {""};

    shared->end = EXPLORE_ERROR;
    int ret = explore_world_create(&world, &job->config, &job->set, &err);
    if (ret == 0)
        ret = explore_search_create(&search, job->mode, job->bound, job->seed,
                                    &shared->path);
    if (ret < 0) {
        snprintf(shared->failure, sizeof(shared->failure), "%s",
                 *err.msg ? err.msg : strerror(-ret));
        leave();
    }
    sim_set_stuck(explore_world_env(world), stuck, NULL);
    if (job->draw)
        explore_draw_begin(world, &job->set);
    shared->end = EXPLORE_FAILED; /* if it dies */
    enum explore_end end = search_all(job, search);
    explore_search_count(search, &shared->count);
    shared->end = end;
    leave();
}

/* The last of what it said before it died. */
static void tell_death(int status, int messages)
{
    char text[600];
    off_t size = lseek(messages, 0, SEEK_END);
    off_t from = size > (off_t)sizeof(text) - 1 ? size - (off_t)sizeof(text) + 1 : 0;
    ssize_t n = pread(messages, text, sizeof(text) - 1, from);

    text[n > 0 ? n : 0] = '\0';
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    snprintf(shared->failure, sizeof(shared->failure), "%s %d: %s",
             WIFSIGNALED(status) ? "killed by signal" : "ended with status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), text);
    if (shared->end != EXPLORE_ERROR)
        shared->end = EXPLORE_FAILED;
}

static void run_child(const struct explore_job *job)
{
    int messages = memfd_create("explore", MFD_CLOEXEC), status;
    pid_t pid;

    fflush(stdout);
    pid = messages < 0 ? -1 : fork();
    if (pid == 0) {
        dup2(messages, STDERR_FILENO);
        child_main(job);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        shared->end = EXPLORE_ERROR;
        snprintf(shared->failure, sizeof(shared->failure), "no process for it: %s",
                 strerror(errno));
    } else if (status != 0) {
        tell_death(status, messages);
    }
    if (messages >= 0)
        close(messages);
}

void explore_child(const struct explore_job *job, struct explore_outcome *outcome)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        outcome->end = EXPLORE_ERROR;
        snprintf(outcome->failure, sizeof(outcome->failure), "out of memory");
        return;
    }
    *shared = (struct explore_outcome){.path = outcome->path};
    run_child(job);
    *outcome = *shared;
    munmap(shared, sizeof(*shared));
}
