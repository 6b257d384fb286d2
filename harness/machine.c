/* From /proc, /sys and the clock of the machine: machine.h. */
#include "harness/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "core/env/env.h"

static uint64_t timeval_ns(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

void usage_now(struct usage *u)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    *u = (struct usage){.user_ns = timeval_ns(r.ru_utime),
                        .system_ns = timeval_ns(r.ru_stime),
                        .switches_own = (uint64_t)r.ru_nvcsw,
                        .switches_forced = (uint64_t)r.ru_nivcsw,
                        .faults_major = (uint64_t)r.ru_majflt,
                        .rss_max = (uint64_t)r.ru_maxrss * 1024};
}

int machine_pin(unsigned n, struct error *err)
{
    cpu_set_t may, set;
    unsigned taken = 0;

    if (!n)
        return 0;
    if (sched_getaffinity(0, sizeof(may), &may) < 0)
        return error_set(err, -errno, "cpus: %s", strerror(errno));
    if ((unsigned)CPU_COUNT(&may) < n)
        return error_set(err, -EINVAL, "cpus: %u wanted, this process may use %d", n,
                         CPU_COUNT(&may));
    CPU_ZERO(&set);
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && taken < n; cpu--) {
        if (CPU_ISSET(cpu, &may)) {
            CPU_SET(cpu, &set);
            taken++;
        }
    }
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        return error_set(err, -errno, "cpus: %s", strerror(errno));
    return 0;
}

void machine_cpus(char *list, size_t size)
{
    cpu_set_t set;
    size_t used = 0;

    *list = '\0';
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE && used < size; cpu++) {
        int last = cpu;
        if (!CPU_ISSET(cpu, &set))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set))
            last++;
        int n = last > cpu
                    ? snprintf(list + used, size - used, "%s%d-%d", used ? "," : "",
                               cpu, last)
                    : snprintf(list + used, size - used, "%s%d", used ? "," : "", cpu);
        used += n > 0 ? (size_t)n : 0;
        cpu = last;
    }
}

double machine_spin_ns(void)
{
    struct env *env = env_real(0);
    uint64_t best = UINT64_MAX;

    for (int round = 0; env && round < 5; round++) {
        uint64_t x = 88172645463325252ull, begin = env_now_ns(env);
        for (int i = 0; i < 1000000; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        __asm__ volatile("" : : "r"(x));
        uint64_t took = env_now_ns(env) - begin;
        if (took < best)
            best = took;
    }
    if (env)
        env_destroy(env);
    return (double)best;
}

uint64_t machine_steal_ns(void)
{
    unsigned long long v[8] = {0};
    FILE *f = fopen("/proc/stat", "re");

    if (!f)
        return 0;
    if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
               &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
        v[7] = 0;
    fclose(f);
    return v[7] * (1000000000u / (unsigned long)sysconf(_SC_CLK_TCK));
}

void machine_drop_cache(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* The rest of the line of path that begins with key, after colon and blanks. */
static bool line_of(const char *path, const char *key, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    char line[512];
    bool found = false;

    while (f && !found && fgets(line, sizeof(line), f)) {
        if (strncmp(line, key, strlen(key)))
            continue;
        char *value = line + strlen(key);
        value += strspn(value, " \t:");
        value[strcspn(value, "\n")] = '\0';
        snprintf(out, size, "%s", value);
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

json_t *machine_manifest(void)
{
    json_t *m = json_object();
    struct utsname u;
    char text[256], date[64];
    time_t now = time(NULL);
    struct tm tm;

    uname(&u);
    json_object_set_new(m, "host", json_string(u.nodename));
    snprintf(text, sizeof(text), "%s %s %s", u.sysname, u.release, u.machine);
    json_object_set_new(m, "kernel", json_string(text));
    if (line_of("/proc/cpuinfo", "model name", text, sizeof(text)))
        json_object_set_new(m, "cpu", json_string(text));
    json_object_set_new(m, "cpus_online", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    machine_cpus(text, sizeof(text));
    json_object_set_new(m, "cpus_allowed", json_string(text));
    if (line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "", text,
                sizeof(text)))
        json_object_set_new(m, "governor", json_string(text));
    if (line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource", "",
                text, sizeof(text)))
        json_object_set_new(m, "clocksource", json_string(text));
    if (line_of("/proc/meminfo", "MemTotal", text, sizeof(text)))
        json_object_set_new(m, "memory", json_string(text));
    if (gmtime_r(&now, &tm) && strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm))
        json_object_set_new(m, "date", json_string(date));
    return m;
}
