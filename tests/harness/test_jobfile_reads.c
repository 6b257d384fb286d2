/* Job files: what is right is read as fio reads it, what is wrong is told with its
 * place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/jobfile.h"
#include "harness/values.h"

static struct job_list list;
static struct job base;
static struct error err;

static int read_text(const char *text)
{
    char path[] = "/tmp/asyncow-job-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    job_list_free(&list);
    job_free(&base);
    job_init(&base);
    err.msg[0] = '\0';
    int ret = jobfile_read(&list, path, &base, &err);
    unlink(path);
    return ret;
}

static void sections_global_and_units(void **state)
{
    (void)state;
    assert_int_equal(read_text("# comment\n; another\n\n"
                               "[global]\nbs=4k\niodepth = 32\ndirect=1\nruntime=1m\n"
                               "[first]\nrw=randread:8\nsize=50%\nramp_time=500ms\n"
                               "[global]\nbs=8ki\n"
                               "[ second ]\nrw=write:60k\nio_size=1.5m\ntime_based\n"
                               "bs=1KiB\nfilename=/x y\n"),
                     0);
    assert_int_equal(list.n, 2);
    struct job *a = &list.job[0], *b = &list.job[1];
    assert_string_equal(a->name, "first");
    assert_string_equal(b->name, "second");
    assert_int_equal(a->bs, 4096);
    assert_int_equal(b->bs, 1024); /* the later one, and KiB is 1024 */
    assert_int_equal(a->iodepth, 32);
    assert_true(a->direct && b->direct);
    assert_int_equal(a->runtime_ns, 60000000000);
    assert_int_equal(a->ramp_ns, 500000000);
    assert_true(a->rw.random && a->rw.read && !a->rw.write);
    assert_int_equal(a->rw.skip, 8);
    assert_int_equal(amount_of(&a->size, 1000), 500);
    assert_int_equal(b->rw.skip, 61440);
    assert_int_equal(b->io_size.bytes, 1572864);
    assert_true(b->time_based && !a->time_based);
    assert_string_equal(b->image, "/x y");
    assert_null(a->image);
}

static void every_rw(void **state)
{
    static const struct {
        const char *name;
        int read, write, trim, random;
    } all[] = {{"read", 1, 0, 0, 0},         {"write", 0, 1, 0, 0},
               {"trim", 0, 0, 1, 0},         {"randread", 1, 0, 0, 1},
               {"randwrite", 0, 1, 0, 1},    {"randtrim", 0, 0, 1, 1},
               {"rw", 1, 1, 0, 0},           {"readwrite", 1, 1, 0, 0},
               {"randrw", 1, 1, 0, 1},       {"trimwrite", 0, 1, 1, 0},
               {"randtrimwrite", 0, 1, 1, 1}};
    (void)state;
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct job j;
        job_init(&j);
        assert_int_equal(job_set(&j, "rw", all[i].name, &err), 0);
        assert_int_equal(j.rw.read, all[i].read);
        assert_int_equal(j.rw.write, all[i].write);
        assert_int_equal(j.rw.trim, all[i].trim);
        assert_int_equal(j.rw.random, all[i].random);
        job_free(&j);
    }
}

static void sizes_and_times(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
    } sizes[] = {{"0", 0},           {"512", 512},      {"4k", 4096},
                 {"4K", 4096},       {"4kb", 4096},     {"4ki", 4096},
                 {"4KiB", 4096},     {"1m", 1 << 20},   {"0x1000", 4096},
                 {"2g", 2ull << 30}, {"1.5k", 1536},    {"1t", 1ull << 40},
                 {"7b", 7},          {"3p", 3ull << 50}},
      times[] = {{"10", 10000000000},  {"1s", 1000000000},   {"20ms", 20000000},
                 {"30us", 30000},      {"1.5s", 1500000000}, {"2m", 120000000000},
                 {"1h", 3600000000000}};
    static const char *const bad[] = {"",   "k", "4q", "-4k", "4k4", "9999999999999g",
                                      "4kx"};
    uint64_t v;
    (void)state;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(parse_bytes(sizes[i].text, 1024, &v), 0);
        assert_int_equal(v, sizes[i].value);
    }
    assert_int_equal(parse_bytes("4k", 1000, &v), 0);
    assert_int_equal(v, 4000);
    for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        assert_int_equal(parse_time_ns(times[i].text, &v), 0);
        assert_int_equal(v, times[i].value);
    }
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse_bytes(bad[i], 1024, &v), -EINVAL);
        assert_int_equal(parse_time_ns(bad[i], &v), -EINVAL);
    }
}

/* Bad input, and words that the message must have. */
static void errors_name_place_and_remedy(void **state)
{
    static const struct {
        const char *text, *words[3];
    } bad[] = {
        {"[a]\nrw=read\niodeph=4\n", {":3:", "iodeph", "`iodepth`"}},
        {"[a]\nrw=randraed\n", {":2:", "randraed", "`randread`"}},
        {"[a]\nbs=4q\n", {":2:", "bs", "4k"}},
        {"[a]\nnumjobs=4\n", {":2:", "numjobs", "not supported"}},
        {"[a]\niodepth=0\n", {":2:", "iodepth", "range"}},
        {"[a]\niodepth=x\n", {":2:", "iodepth", "whole number"}},
        {"[a]\nbs=\n", {":2:", "bs", "needs a value"}},
        {"[a]\nverify=md5\n", {":2:", "verify", "crc32c"}},
        {"[a]\ndirect=2\n", {":2:", "direct", "neither"}},
        {"[a]\npercentile_list=50:101\n", {":2:", "percentile_list", "50:90"}},
        {"[a]\nruntime=10x\n", {":2:", "runtime", "500ms"}},
        {"[a]\ntrials=3\n", {":2:", "trials", "[global]"}},
        {"bs=4k\n[a]\n", {":1:", "before any", "bs"}},
        {"[a\nbs=4k\n", {":1:", "]", "section"}},
        {"[]\n", {":1:", "section", "name"}},
        {"[global]\nbs=4k\n", {"no job", "global", "has"}},
        {"", {"no job", "global", "has"}},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (read_text(bad[i].text) >= 0)
            fail_msg("accepted: %s", bad[i].text);
        for (unsigned w = 0; w < 3; w++)
            if (!strstr(err.msg, bad[i].words[w]))
                fail_msg("`%s`: message `%s` lacks `%s`", bad[i].text, err.msg,
                         bad[i].words[w]);
    }
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    err.msg[0] = '\0';
    assert_int_equal(jobfile_read(&list, "/no/such.fio", &base, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/no/such.fio"));
}

static void dashes_are_underscores(void **state)
{
    struct job j;
    (void)state;
    job_init(&j);
    assert_int_equal(job_set(&j, "metadata_writes", "through", &err), 0);
    assert_true(j.through);
    assert_int_equal(job_set(&j, "time-based", NULL, &err), 0);
    assert_true(j.time_based);
    assert_int_equal(job_set(&j, "ioengine", "libaio", &err), 0);
    assert_string_equal(j.engine, "libaio");
    assert_true(job_option_wants_value("metadata-writes"));
    assert_false(job_option_wants_value("time_based"));
    job_free(&j);
}

static int clean(void **state)
{
    (void)state;
    job_list_free(&list);
    job_free(&base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_global_and_units),
        cmocka_unit_test(every_rw),
        cmocka_unit_test(sizes_and_times),
        cmocka_unit_test(errors_name_place_and_remedy),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(dashes_are_underscores),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}
