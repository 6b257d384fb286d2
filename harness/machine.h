/*
 * What belongs to this machine and moment: processor time, pinning, how fast it spins,
 * what it is. Everything here stays out of a report with --no-manifest-host.
 */
#ifndef HARNESS_MACHINE_H
#define HARNESS_MACHINE_H
#include <jansson.h>
#include <stdint.h>

#include "core/env/error.h"

struct usage { /* of the whole process; counters, but for rss_max */
    uint64_t user_ns, system_ns, switches_own, switches_forced, faults_major;
    uint64_t rss_max; /* bytes */
};
void usage_now(struct usage *);
/* Pins the process, threads to come included, to n of the CPUs it may use, the last
 * ones (the first get most interrupts). 0 or -EINVAL with err. list: e.g. "2-3". */
int machine_pin(unsigned n, struct error *);
void machine_cpus(char *list, size_t size); /* the CPUs it may use now */
/* Nanoseconds that a fixed piece of arithmetic takes: the same on a quiet machine. */
double machine_spin_ns(void);
uint64_t machine_steal_ns(void); /* stolen by the hypervisor since boot, all CPUs */
/* Drops what the page cache holds of the file (as fio's invalidate); best effort. */
void machine_drop_cache(const char *path);
/* Kernel, processor, governor, memory, date. */
json_t *machine_manifest(void);

#endif
