/* A loop device with sectors of 4096 bytes; the test is skipped where that's
 * forbidden. */
#ifndef ASYNCOW_LOOP_DEVICE_H
#define ASYNCOW_LOOP_DEVICE_H
#include "tests/block/block_test.h"

static inline void loop_device_make(const char *image, long long size, char device[64])
{
    char command[400];
    FILE *out;

    snprintf(command, sizeof(command),
             "truncate -s %lld %s && losetup -b 4096 -f --show %s 2>&1", size, image,
             image);
    out = popen(command, "r");
    if (!out || !fgets(device, 64, out) || strncmp(device, "/dev/", 5) != 0) {
        if (out)
            pclose(out);
        print_message("skipped: losetup -b 4096 isn't permitted here\n");
        skip();
    }
    pclose(out);
    device[strcspn(device, "\n")] = '\0';
}

static inline void loop_device_drop(const char *device)
{
    char command[128];

    snprintf(command, sizeof(command), "losetup -d %s", device);
    assert_int_equal(system(command), 0);
}

#endif
