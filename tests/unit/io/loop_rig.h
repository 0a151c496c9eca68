/* SPDX-License-Identifier: Apache-2.0
 * One running loop, and jobs done on it. */
#ifndef COHORT_UNIT_IO_LOOP_RIG_H
#define COHORT_UNIT_IO_LOOP_RIG_H

#include "io/io.h"

#include "support.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define BOUND_NS (30000 * MS)

struct rig {
    struct unit_memory memory; /* one loop, and this thread only while it waits or the loop does not run */
    struct cohorti_io *io;
    const struct cohorti_io_ops *ops;
    struct cohorti_loop *loop;
    void (*_Atomic job)(struct rig *r); /* the loop may be woken for something else as well */
    struct cohorti_waiter done;
};

static inline void rig_on_wake(void *ctx)
{
    struct rig *r = ctx;
    void (*job)(struct rig *) = atomic_exchange(&r->job, NULL);
    if (job != NULL) {
        job(r);
        cohorti_waiter_signal(&r->done);
    }
}

static inline void rig_on_timer(void *ctx)
{
}

static inline void rig_open(struct rig *r)
{
    static const struct cohorti_loop_handler handler = {.on_wake = rig_on_wake, .on_timer = rig_on_timer};
    memset(r, 0, sizeof *r);
    unit_memory_init(&r->memory);
    assert_int_equal(cohorti_io_uv_new(&r->memory.alloc, &r->io), COHORT_OK);
    r->ops = r->io->ops;
    assert_int_equal(r->ops->loop_new(r->io, "test", &handler, r, &r->loop), COHORT_OK);
    assert_int_equal(r->ops->loop_start(r->loop), COHORT_OK);
}

static inline void rig_close(struct rig *r)
{
    r->ops->loop_stop(r->loop);
    r->ops->loop_free(r->loop);
    cohorti_io_uv_free(r->io);
    unit_memory_assert_empty(&r->memory);
}

static inline void rig_do(struct rig *r, void (*job)(struct rig *r))
{
    cohorti_waiter_init(&r->done);
    r->job = job;
    r->ops->loop_wake(r->loop);
    assert_int_equal(r->ops->wait(r->io, &r->done, BOUND_NS), COHORT_OK);
    cohorti_waiter_deinit(&r->done);
}

#define WAIT_FOR(r, condition)                                      \
    do {                                                            \
        uint64_t until_ = (r)->ops->now_ns((r)->io) + BOUND_NS;     \
        while (!(condition)) {                                      \
            if ((r)->ops->now_ns((r)->io) > until_) {               \
                fail_msg("%s:%d: " #condition, __FILE__, __LINE__); \
            }                                                       \
            sched_yield();                                          \
        }                                                           \
    } while (0)

#endif
