/*
 * An opened image: one node a file, the top first. Made by core/image/chain.h, read by
 * the strategies.
 */
#ifndef ASYNCOW_NODE_H
#define ASYNCOW_NODE_H
#include <stdbool.h>
#include <stdint.h>

struct blk_file;
struct qcow2_header;
struct blocking_driver;

enum image_format { IMAGE_RAW, IMAGE_QCOW2, IMAGE_VDI };
struct image_node {
    struct blk_file *file;
    enum image_format format;
    uint64_t size;               /* of the disk it shows, bytes */
    struct qcow2_header *header; /* qcow2: parsed */
    void *header_cluster;        /* qcow2: cluster_size bytes, as in the file */
    const struct blocking_driver *driver; /* vdi: what works on it; NULL: others */
    void *driver_state;
    bool write;
    struct image_node *backing; /* NULL: none */
};

#endif
