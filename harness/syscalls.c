/* A tracer that steps through every thread of its child: syscalls.h. */
#include "harness/syscalls.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Calls that no kernel has; the tracer sees them. */
enum { MARK_BEGIN = 0x7a570, MARK_END = 0x7a571 };

void syscalls_begin(void) { syscall(MARK_BEGIN); }
void syscalls_end(void) { syscall(MARK_END); }

/* Its exit status is what fn said. */
static __attribute__((noreturn)) void child(int (*fn)(void *), void *opaque)
{
    int ret;

    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit(errno);
    raise(SIGSTOP);
    ret = fn(opaque);
    _exit(-ret);
}

static void entered(struct syscalls *counts, uint64_t number, bool *counting)
{
    if (number == MARK_BEGIN || number == MARK_END) {
        *counting = number == MARK_BEGIN;
    } else if (*counting) {
        counts->total++;
        if (number < SYSCALLS_MAX)
            counts->by_number[number]++;
    }
}

/* One stop of one thread. Returns the signal to go on with. */
static int stopped(struct syscalls *counts, pid_t tid, int status, bool *counting)
{
    struct __ptrace_syscall_info info;
    int sig = WSTOPSIG(status);

    if (sig == (SIGTRAP | 0x80)) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_ENTRY)
            entered(counts, info.entry.nr, counting);
        return 0;
    }
    return sig == SIGTRAP || sig == SIGSTOP ? 0 : sig; /* a clone's events, its start */
}

static int trace(struct syscalls *counts, pid_t pid)
{
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    bool counting = false;
    int status;
    pid_t tid;

    if (waitpid(pid, &status, 0) < 0)
        return -errno;
    if (WIFEXITED(status))
        return -WEXITSTATUS(status);
    if (ptrace(PTRACE_SETOPTIONS, pid, NULL, options) < 0 ||
        ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0)
        return -errno;
    while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (tid < 0)
            continue;
        if (WIFSTOPPED(status))
            ptrace(PTRACE_SYSCALL, tid, NULL,
                   (long)stopped(counts, tid, status, &counting));
        else if (tid == pid)
            return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
    }
    return -errno;
}

int syscalls_count(struct syscalls *counts, int (*fn)(void *), void *opaque,
                   struct error *err)
{
    pid_t pid = fork();
    int ret;

    if (pid == 0)
        child(fn, opaque);
    if (pid < 0)
        return error_set(err, -errno, "fork: %s", strerror(errno));
    *counts = (struct syscalls){.total = 0};
    ret = trace(counts, pid);
    if (ret < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
        error_set(err, ret, "counting system calls: %s", strerror(-ret));
    }
    return ret;
}
