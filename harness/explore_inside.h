/*
 * What the files of one world share; nobody else includes it.
 *
 *   explore_world.c    its life, the operations, a schedule
 *   explore_disk.c     sectors, where the operations are, the image before each schedule
 *   explore_verdict.c  what must hold after each
 */
#ifndef HARNESS_EXPLORE_INSIDE_H
#define HARNESS_EXPLORE_INSIDE_H
#include "core/image/node.h"
#include "core/image/reader.h"
#include "harness/explore_world.h"

#define SECTOR ((uint64_t)512)
#define NAME "mem:explored"
#define NAME_BELOW "mem:below"
enum { OLD = 1, BELOW = 2, FIRST_TAG = 3, NONE = ~0u };
enum { SPARE = 1, FIRST_CLUSTER = 2 }; /* of the disk, by number */
enum { CLUSTERS_MAX = 2 * EXPLORE_OPS_MAX };

struct explore_world {
    struct explore_config config;
    struct explore_set set;
    struct env *env;
    struct loop *loop;
    struct loop_options engine;
    struct blk_file *file;
    struct image_node node, below; /* below: with `overlay` */
    uint8_t *base;                 /* the file before each schedule */
    uint64_t base_len, disk;

    uint64_t cluster[CLUSTERS_MAX]; /* looked at in the end: their numbers */
    bool allocated[CLUSTERS_MAX];   /* before */
    unsigned clusters;

    struct strategy_image *image;
    struct explore_op ops[EXPLORE_OPS_MAX];
    unsigned moment, pending;
    bool submitting, threads;
    struct explore_watch watch;
    uint8_t *buf; /* a cluster */
    uint64_t outcome;
    char *failure;
};

/* The first failure is told. Returns false. */
bool explore_fail(struct explore_world *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* explore_world.c */
int explore_set_up(struct explore_world *, struct error *); /* loop and file */
bool explore_open_image(struct explore_world *);
bool explore_close_image(struct explore_world *);
int explore_run_alone(struct explore_world *, struct guest_req); /* its result */
void explore_verify(struct explore_world *);
const char *explore_snapshot_name(unsigned op);

/* explore_disk.c */
void explore_sector_fill(uint8_t *, uint64_t sector, unsigned tag);
unsigned explore_sector_tag(const uint8_t *, uint64_t sector);
const char *explore_tag_text(unsigned tag, char text[32]);
/* What a sector of cluster k, of those looked at, holds before. */
unsigned explore_first_tag(const struct explore_world *, unsigned k);
uint64_t explore_cluster_of(const struct explore_world *, unsigned op);
void explore_lay_out(struct explore_world *);
int explore_make_image(struct explore_world *, struct error *);
int explore_put_back(struct explore_world *);

/* explore_verdict.c */
bool explore_read_cluster(struct explore_world *, struct reader *, uint64_t cluster);
bool explore_judge(struct explore_world *); /* closes the image */

#endif
