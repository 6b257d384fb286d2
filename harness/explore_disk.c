/*
 * The disk of one set of operations: what is in its sectors, where the operations are, and
 * the image as it is before each schedule. See explore_inside.h.
 *
 * Each sector of the disk that an operation may change holds one word, repeated: its own
 * number and a tag that tells who wrote it (0: zeros; 1: what was there before; 2: what shows
 * from below where nothing is; 3 + i: operation i). So a sector that is torn, stale or somebody else's shows.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image/create.h"
#include "core/image/ready.h"
#include "core/image/writer.h"
#include "harness/explore_inside.h"

/* --- sectors ------------------------------------------------------------------------- */

void explore_sector_fill(uint8_t *p, uint64_t sector, unsigned tag)
{
    uint64_t word = tag ? sector << 8 | tag : 0;

    for (unsigned i = 0; i < SECTOR; i += sizeof(word))
        memcpy(p + i, &word, sizeof(word));
}

/* NONE: no tag that sector could have. */
unsigned explore_sector_tag(const uint8_t *p, uint64_t sector)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    if (memcmp(p, p + sizeof(word), SECTOR - sizeof(word)))
        return NONE;
    return !word ? 0 : word >> 8 == sector ? (unsigned)(word & 255) : NONE;
}

const char *explore_tag_text(unsigned tag, char text[32])
{
    if (tag == 0)
        return "zeros";
    if (tag == OLD)
        return "what was there before";
    if (tag == BELOW)
        return "what lies below";
    if (tag == NONE)
        return "what nobody wrote there";
    snprintf(text, 32, "what operation %u wrote", tag - FIRST_TAG + 1);
    return text;
}

/* --- the image ----------------------------------------------------------------------- */

/* The cluster that operation i is about. */
uint64_t explore_cluster_of(const struct explore_world *w, unsigned i)
{
    uint64_t per_l2 = w->config.cluster / 8;

    switch (w->set.place) {
    case EXPLORE_NEIGHBOUR:
        return FIRST_CLUSTER + i;
    case EXPLORE_L2:
        return FIRST_CLUSTER + 5 * i;
    case EXPLORE_REFBLOCK:
        return FIRST_CLUSTER + i * per_l2;
    default:
        return FIRST_CLUSTER;
    }
}

static unsigned note_cluster(struct explore_world *w, uint64_t cluster)
{
    for (unsigned k = 0; k < w->clusters; k++)
        if (w->cluster[k] == cluster)
            return k;
    w->cluster[w->clusters] = cluster;
    return w->clusters++;
}

/* Where the operations are and what is there before: a cluster is unallocated if one of
 * them is to allocate it. The one after the last is looked at, too. */
void explore_lay_out(struct explore_world *w)
{
    bool to_allocate[CLUSTERS_MAX] = {false};

    for (unsigned i = 0; i < w->set.n; i++) {
        if (!explore_located(w->set.op[i]))
            continue;
        unsigned k = note_cluster(w, explore_cluster_of(w, i));
        to_allocate[k] |= w->set.op[i] == EXPLORE_ALLOC;
        w->allocated[k] = true;
    }
    for (unsigned k = 0; k < w->clusters; k++)
        w->allocated[k] = !to_allocate[k];
    if (!w->clusters) /* something to flush, to keep */
        w->allocated[note_cluster(w, FIRST_CLUSTER)] = true;
    else
        note_cluster(w, w->cluster[w->clusters - 1] + 1);
    w->disk = (explore_cluster_of(w, EXPLORE_OPS_MAX - 1) + 3) * w->config.cluster;
}

unsigned explore_first_tag(const struct explore_world *w, unsigned k)
{
    return w->allocated[k] ? OLD : w->config.overlay ? BELOW : 0;
}

static const struct {
    const char *name;
    bool old, overlay;
} images[] = {{"v3", false, false},
              {"v2", true, false},
              {"v3-overlay", false, true},
              {"v2-overlay", true, true}};
enum { IMAGES = sizeof(images) / sizeof(images[0]) };

bool explore_image_parse(struct explore_config *c, const char *text)
{
    unsigned i = 0;

    while (i < IMAGES && strcmp(images[i].name, text))
        i++;
    if (i == IMAGES)
        return false;
    c->old = images[i].old;
    c->overlay = images[i].overlay;
    return true;
}

const char *explore_image_text(const struct explore_config *c)
{
    unsigned i = 0;

    while (images[i].old != c->old || images[i].overlay != c->overlay)
        i++;
    return images[i].name;
}

/* Each of its sectors says where it is from. */
static int make_below(struct explore_world *w, struct error *err)
{
    struct blk_options bo = {.env = w->env, .sim = true, .write = true, .create = true};
    struct blk_file *file;
    uint8_t sector[SECTOR];
    int ret = blk_open(&file, NAME_BELOW, &bo, err);

    if (ret < 0)
        return ret;
    for (uint64_t s = 0; s < w->disk / SECTOR && ret == 0; s++) {
        explore_sector_fill(sector, s, BELOW);
        ret = blk_pwrite(file, s * SECTOR, sector, SECTOR);
    }
    blk_close(file);
    w->below = (struct image_node){.format = IMAGE_RAW, .size = w->disk};
    w->node.backing = &w->below;
    return ret;
}

static int fill_image(struct explore_world *w, struct error *err)
{
    uint64_t cluster = w->config.cluster;
    struct writer *writer;
    int ret = image_read_header(&w->node, err);

    if (ret == 0)
        ret = writer_create(&writer, &w->node, err);
    if (ret < 0)
        return ret;
    for (unsigned k = 0; k < w->clusters && ret == 0; k++) {
        uint64_t first = w->cluster[k] * cluster / SECTOR;
        if (!w->allocated[k])
            continue;
        for (uint64_t s = 0; s < cluster / SECTOR; s++)
            explore_sector_fill(w->buf + s * SECTOR, first + s, OLD);
        ret = writer_write(writer, w->cluster[k] * cluster, w->buf, cluster, err);
    }
    int end = writer_finish(writer, err);
    return ret < 0 ? ret : end;
}

int explore_make_image(struct explore_world *w, struct error *err)
{
    struct create_options co = create_defaults(w->env, w->disk);

    co.cluster_size = w->config.cluster;
    co.version = w->config.old ? 2 : 3;
    co.sim = true;
    w->node =
        (struct image_node){.format = IMAGE_QCOW2, .size = w->disk, .write = true};
    int ret = 0;
    if (w->config.overlay) {
        co.backing = NAME_BELOW;
        co.backing_format = "raw";
        ret = make_below(w, err);
    }
    if (ret == 0)
        ret = image_create(NAME, &co, err);
    if (ret == 0)
        ret = explore_set_up(w, err);
    if (ret == 0)
        ret = fill_image(w, err);
    if (ret < 0)
        return ret;
    w->base_len = blk_size(w->file);
    w->base = malloc(w->base_len);
    return w->base ? blk_pread(w->file, 0, w->base, w->base_len) : -ENOMEM;
}

int explore_put_back(struct explore_world *w)
{
    int ret = blk_truncate(w->file, 0);

    return ret < 0 ? ret : blk_pwrite(w->file, 0, w->base, w->base_len);
}
