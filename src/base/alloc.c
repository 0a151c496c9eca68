/* SPDX-License-Identifier: Apache-2.0
 *
 * The one operation on an allocator that is more than a call through it. Memory itself always comes from whoever made the
 * node: this layer has no default and links no malloc.
 */
#include "base/alloc.h"

#include <string.h>

void *cohorti_alloc_zero(const cohort_allocator *a, size_t size)
{
    void *ptr = cohorti_alloc(a, size);
    if (ptr != NULL) {
        memset(ptr, 0, size);
    }
    return ptr;
}
