/* SPDX-License-Identifier: Apache-2.0
 * A flag as a descriptor: an eventfd that is readable while it is set. */
#include "io/uv/uv_io.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct cohorti_event {
    const cohort_allocator *alloc;
    int fd;
};

int cohorti_uv_event_new(struct cohorti_io *io, struct cohorti_event **out)
{
    const cohort_allocator *alloc = ((struct uv_io *)io)->alloc;
    struct cohorti_event *event = cohorti_alloc(alloc, sizeof *event);
    if (event == NULL) {
        return COHORT_ENOMEM;
    }
    event->alloc = alloc;
    event->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (event->fd < 0) {
        int status = cohorti_uv_status(errno);
        cohorti_release(alloc, event);
        return status;
    }
    *out = event;
    return COHORT_OK;
}

/* Neither call can fail: the counter is 0 or 1. */
void cohorti_uv_event_set(struct cohorti_event *event, bool set)
{
    uint64_t one = 1;
    ssize_t done = set ? write(event->fd, &one, sizeof one) : read(event->fd, &one, sizeof one);
    (void)done;
}

int cohorti_uv_event_fd(const struct cohorti_event *event)
{
    return event->fd;
}

void cohorti_uv_event_free(struct cohorti_event *event)
{
    close(event->fd);
    cohorti_release(event->alloc, event);
}
