#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prove that the unit tests of sessions can fail: break the code in one place, run them, expect one to notice.

    tests/unit/core/mutations_session.py [NAME...]        default: all

Works on a copy of base, wire, core and these tests; the tree is not touched. Prints for each mutation the test that caught it. Exit
status 1 when one was not caught, or when a mutation no longer applies because the code it breaks has changed.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TESTS = ["log", "chunk", "outbound", "outbound_reader", "stream", "inbound", "inbound_streams", "undelivered", "session", "link"]
LAYERS = ["base", "wire", "core"]

OUT, RESUME, IN, LOG, LOST, EXPIRY, CHUNK, STREAM, CARRY = (
    "src/core/%s.c" % name for name in ("outbound", "resume", "inbound", "log", "undelivered", "expiry", "chunk", "stream", "carry"))

# name, file, what stands there (once), what stands there instead
MUTATIONS = [
    ("received counted before delivery", IN, "    int status = take(in, frame, placed, out, why);\n",
     "    int status = take(in, frame, placed, out, why);\n    in->lanes[out->lane].received += status == COHORT_OK ? out->frame_bytes : 0;\n"
     "    out->frame_bytes = 0;\n"),
    ("rewind forgotten", RESUME, "        cohorti_log_rewind(log, resume->lanes[i].received);\n", ""),
    ("an acknowledgement trims more than it says", LOG, "    log->acked = offset;\n    while (log->first != log->last && end_of(log->first) <= offset) {",
     "    log->acked = offset;\n    while (log->first != log->last && log->first->offset <= offset) {"),
    ("credit ignored when writing", OUT, " && log->sent + skip < limit))) {", "))) {"),
    ("credit of an acknowledgement ignored", RESUME, "        lane->limit = mark->limit > lane->limit ? mark->limit : lane->limit;\n", ""),
    ("credit not enforced", IN, "    return lane->told_limit > 0 && lane->received < lane->told_limit + COHORTI_RUN_BYTES_MAX;",
     "    return lane != NULL;"),
    ("what was written once is forgotten", OUT, "        if (lane->log.sent > lane->written_max) {\n", "        if (lane->log.sent != lane->written_max) {\n"),
    ("written_max follows a resume", RESUME, "        cohorti_log_ack(log, resume->lanes[i].received);\n",
     "        cohorti_log_ack(log, resume->lanes[i].received);\n        ob->lanes[i].written_max = log->sent;\n"),
    ("names not announced again", RESUME, "            if (cohorti_outbound_announce_again(ob, i)) {\n", "            if (true) {\n"),
    ("names announced in every message", OUT, "        lane->used_last = find_subject(lane, name, hash);\n",
     "        lane->used_last = find_subject(lane, name, hash);\n        lane->used_last = NULL;\n"),
    ("order of chunks unchecked", IN, "    return chunk->at == partial->len && same_total", "    return same_total"),
    ("total of chunks unchecked", IN, "chunk->at == partial->len && same_total && ", "chunk->at == partial->len && "),
    ("a stream begins twice", IN, "    if (partial != NULL && partial->len > 0) {\n        return COHORT_EPROTOCOL;", "    if (false) {\n        return COHORT_EPROTOCOL;"),
    ("streams without number", IN, "    struct cohorti_partial *partial = find_partial(lane, out->chunk.stream);", "    struct cohorti_partial *partial = lane->partials;"),
    ("any number of streams", IN, "lane->partial_count - of_whole >= COHORTI_STREAMS_MAX) {", "false) {"),
    ("a piece counts before it is committed", IN, "    bool whole = chunk->last && partial->bytes != NULL;\n",
     "    bool whole = chunk->last && partial->bytes != NULL;\n    partial->len += chunk->data_len;\n"),
    ("an aborted stream stays", IN, "(d->chunk.last || d->chunk.aborts)) {\n        drop_partial", "d->chunk.last) {\n        drop_partial"),
    ("a stream fills its lane", STREAM, "ob->limits.lane_bytes_max - ob->limits.lane_bytes_max / 4;", "ob->limits.lane_bytes_max;"),
    ("a number serves again too soon", STREAM, "        lane->aborts_due |= 1U << s->number;\n", "        lane->stream_numbers &= ~(1U << s->number);\n"),
    ("done before it is acknowledged", STREAM, "(s->ended && s->end <= lane->log.acked);", "s->ended;"),
    ("a stream half read goes over", CARRY, "written ? NULL : cohorti_stream_at(c->lane, at);", "cohorti_stream_at(c->lane, at);"),
    ("its places do not move", STREAM, "    s->begin = first ? begin : s->begin;\n    s->end = end;\n", ""),
    ("lost with its last piece acknowledged", STREAM, "        note_whole(&ob->lanes[i]);\n        cohorti_stream_none_moved", "        cohorti_stream_none_moved"),
    ("pieces are told as messages", LOST, "    if (chunk.stream != 0) {\n        return false;\n    }\n", ""),
    ("cut ignored", OUT, "    if (ob->cut >= 0) {\n        cut_len", "    if (false) {\n        cut_len"),
    ("cut survives its link", RESUME, "    ob->cut = -1;\n    ob->resumed = true;\n", "    ob->resumed = true;\n"),
    ("carry-over keeps a frame that was written", CARRY, "    bool written = at + len <= c->written_max;", "    bool written = at + len < c->written_max;"),
    ("carry-over keeps the rest of a large message", CARRY, "    return !c->whole_goes ? STAYS : ", "    return "),
    ("carry-over keeps requests", CARRY, "    return kind_of(frame) == COHORTI_KIND_MESSAGE && frame->type", "    return frame->type"),
    ("carried over and told", CARRY, "            lost->lanes[index].end = at;\n", ""),
    ("not carried over and not told, for lack of memory", CARRY, "            lost->lanes[index].end = end; /* no memory", "            /* no memory"),
    ("resume accepts a mark beyond what was written", RESUME, " || resume->lanes[i].received > lane->written_max) {", ") {"),
    ("an acknowledgement of what was not sent", RESUME, " || mark->received > lane->log.sent) {", ") {"),
    ("another half of the reader goes on", RESUME, "    return resume->known == ob->half && resume->half == ob->reader;",
     "    return resume->known == ob->half;"),
    ("another half of ours goes on", RESUME, "    return resume->known == ob->half && resume->half == ob->reader;",
     "    return resume->half == ob->reader;"),
    ("a new half of the peer does not begin anew", IN, "    if (peer_half == in->peer_half) {", "    if (peer_half == in->peer_half || in->peer_half != 0) {"),
    ("a mark inside a frame is believed", RESUME, "= first_unacknowledged(&lane->log);", "= lane->log.acked;"),
    ("certainly not handled, though written", LOST, "    out->maybe_handled = u->lanes[lane].at <= u->lanes[lane].written_max;",
     "    out->maybe_handled = u->lanes[lane].at < u->lanes[lane].written_max;"),
    ("perhaps handled, though never written", LOST, "    out->maybe_handled = u->lanes[lane].at <= u->lanes[lane].written_max;",
     "    out->maybe_handled = true;"),
    ("a large message half appended", OUT, "        cohorti_log_truncate(&lane->log, before);\n        ob->frames = frames_before;\n",
     "        ob->frames = frames_before;\n"),
    ("EAGAIN owes no event", OUT, "    lane->full = lane->full || full;\n", ""),
    ("the event comes again and again", RESUME, "            lane->full = lane->starved = false;\n", ""),
    ("the watermark ignored", OUT, "(queued > max || need > max - queued);", "false;"),
    ("credit before consumption", IN, "    uint64_t limit = lane->received + credit;\n",
     "    uint64_t limit = lane->received + in->limits.window_bytes;\n"),
    ("a large message holds credit for its last piece only", IN, "    d->credit_bytes = d->frame_bytes > d->chunk.total ?", "    d->credit_bytes = true ?"),
    ("a new half of the peer forgets what waits", IN, "(struct cohorti_inbound_lane){.waiting = lane->waiting};",
     "(struct cohorti_inbound_lane){0};"),
    ("a run without ever having had credit", IN, "lane->told_limit > 0 && lane->received <", "lane->received <"),
    ("a message that was begun expires", EXPIRY, "        if (e.offset < begun) {", "        if (false) {"),
    ("a message being written expires", EXPIRY, "        bool held = e.offset < lane->held_until;", "        bool held = false;"),
    ("compaction from inside a frame", EXPIRY, "from = cohorti_log_frame_from(&lane->log, begun);", "from = begun;"),
    ("a tail may wait for another lane", OUT, "taken < slices[i].len || slices[i].more ?", "taken < slices[i].len ?"),
    ("a body goes with its first part", LOG, "    if (body != NULL && cohorti_body_unref(body)) {", "    if (body != NULL) {"),
    ("a body stays for ever", LOG, "        drop_tail(log, block);\n        cohorti_release(log->alloc, block);\n        return;",
     "        cohorti_release(log->alloc, block);\n        return;"),
    ("a message larger than the watermark never passes", OUT, "queued > max / 2 && (queued", "(queued"),
    ("a chunk is read to where another belongs", IN, "    return belongs ? partial->bytes + chunk.at : NULL;",
     "    return belongs ? partial->bytes + chunk.at / 2 : NULL;"),
    ("a first chunk anywhere", CHUNK, "        return c->at == 0 && c->data_len > 0", "        return c->data_len > 0"),
]

FLAGS = ["-std=gnu11", "-O1", "-g", "-w", "-D_GNU_SOURCE", '-DCOHORTI_VERSION="mutation"', '-DVECTOR_DIR="%s"' % os.path.join(ROOT, "tests", "vectors"),
         "-Iinclude", "-Isrc", "-Itests/unit"]


def sources(tree):
    found = ["tests/unit/support.c"]
    for layer in LAYERS:
        folder = os.path.join("src", layer)
        found += [os.path.join(folder, name) for name in sorted(os.listdir(os.path.join(tree, folder))) if name.endswith(".c")]
    return found


def compile_one(tree, source):
    subprocess.run(["cc", *FLAGS, "-c", source, "-o", source + ".o"], cwd=tree, check=True)


def link(tree, name):
    test = "tests/unit/core/test_%s.c.o" % name
    subprocess.run(["cc", test, *(s + ".o" for s in sources(tree)), "-lcmocka", "-o", "test_" + name], cwd=tree, check=True)


def run(tree):
    """The test that failed, or None when none did. A crash, a failed assertion and a hang are failures too."""
    for name in TESTS:
        link(tree, name)
        try:
            done = subprocess.run(["./test_" + name], cwd=tree, capture_output=True, text=True, errors="replace", timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return name + ": does not end"
        if done.returncode != 0:
            said = done.stdout + done.stderr
            failed = re.findall(r"^\[  FAILED  \] (\w+)$", said, re.M) or re.findall(r"^\[ RUN      \] (\w+)$", said, re.M)[-1:]
            return "%s: %s" % (name, failed[0] if failed else "ended with %d" % done.returncode)
    return None


def main():
    wanted = sys.argv[1:]
    tree = tempfile.mkdtemp(prefix="cohort-mutations-")
    missed = 0
    try:
        for part in ("src", "include", "tests/unit"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(tree, part))
        for source in sources(tree) + ["tests/unit/core/test_%s.c" % name for name in TESTS]:
            compile_one(tree, source)
        said = run(tree)
        if said is not None:
            print("a test fails without any mutation: " + said)
            return 1
        for name, path, old, new in MUTATIONS:
            if wanted and name not in wanted:
                continue
            file_path = os.path.join(tree, path)
            with open(file_path, encoding="utf-8") as file:
                text = file.read()
            if text.count(old) != 1:
                print("STALE   %s: found %d times in %s" % (name, text.count(old), path))
                missed += 1
                continue
            with open(file_path, "w", encoding="utf-8") as file:
                file.write(text.replace(old, new))
            compile_one(tree, path)
            said = run(tree)
            print("%s %s: %s" % ("caught " if said else "MISSED ", name, said or "no test failed"), flush=True)
            missed += said is None
            with open(file_path, "w", encoding="utf-8") as file:
                file.write(text)
            compile_one(tree, path)
        return 1 if missed else 0
    finally:
        shutil.rmtree(tree)


if __name__ == "__main__":
    sys.exit(main())
