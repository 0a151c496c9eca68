/* SPDX-License-Identifier: Apache-2.0
 *
 * channel/plain: the identity in both directions, written in any portions.
 */
#include "channel/channel.h"

#include "support.h"

static void bytes_pass_untouched(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3};
    struct cohorti_channel *ch = &cohorti_channel_plain;
    const uint8_t *out = NULL;
    size_t len = 0;
    assert_int_equal(ch->ops->received(ch, bytes, 3, &out, &len), COHORT_OK);
    assert_ptr_equal(out, bytes);
    assert_int_equal(len, 3);
    const struct cohorti_bytes runs[] = {{bytes, 2}, {bytes + 2, 1}};
    struct cohorti_bytes wire[2] = {{NULL, 0}, {NULL, 0}};
    assert_int_equal(ch->ops->to_write(ch, runs, 2, wire, &len), COHORT_OK);
    assert_int_equal(len, 2);
    assert_ptr_equal(wire[0].at, bytes);
    assert_int_equal(wire[0].len, 2);
    assert_ptr_equal(wire[1].at, bytes + 2);
    assert_int_equal(wire[1].len, 1);
    assert_int_equal(ch->ops->written(ch, 1), 1);
    assert_int_equal(ch->ops->written(ch, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_pass_untouched)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
