#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Prove that the checks of the swarm can fail: break the code in one place, run the swarm, expect it to notice.

    tests/sim/mutations.py [NAME...]        default: all; MUTATION_SEEDS=400 seeds at most for each

Works on a copy; the tree is not touched. Prints for each mutation the seed that caught it. Exit status 1 when one was not
caught, or when a mutation no longer applies because the code it breaks has changed.
"""
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEEDS = os.environ.get("MUTATION_SEEDS", "400")
CPU_S = 30  # of one run: several times what it takes without a mutation

# name, file, what stands there (once), what stands there instead
MUTATIONS = [
    ("tie-break dropped", "src/core/link_choice.c", "return strcmp(a->dialler_id, b->dialler_id) < 0;", "return true;"),
    ("attempt numbers ignored", "src/core/link_choice.c", "if (a->attempt != b->attempt) {", "if (0) {"),
    ("old incarnation not ended", "src/core/cluster_link.c", "        end_old_incarnation(c, m, link);\n", ""),
    ("open link not closed on supersede", "src/core/cluster_link.c",
     "            cohorti_cluster_link_close(c, other, COHORT_ESUPERSEDED);\n", ""),
    ("open link kept when its better successor comes to nothing", "src/core/cluster_link.c",
     "        cohorti_cluster_link_close(c, open, COHORT_EPEERCLOSED);\n", "        ;\n"),
    ("state set before the link stands", "src/core/cluster_link.c", "        link->state = COHORTI_CLUSTER_LINK_ADMITTED;\n",
     "        link->state = COHORTI_CLUSTER_LINK_ADMITTED;\n        cohorti_member_activate(c, link->member);\n"),
    ("no redial after a link ended", "src/core/cluster_link.c",
     "            tell_dialler(c, now_ns, m, link, code);\n        }\n        cohorti_cluster_schedule(c, now_ns, m);\n",
     "            tell_dialler(c, now_ns, m, link, code);\n        }\n"),
    ("loss not told", "src/core/cluster_link.c", "            cohorti_member_deactivate(c, m, m->lost_code);\n", "            ;\n"),
    ("back-off without a ceiling and never reset", "src/core/dialler.c",
     "delay_ms = policy->delay_max_ms;\n    }", "delay_ms = delay_ms * 64;\n    }"),
    ("dials while a link stands", "src/core/cluster_dial.c",
     "if (!c->started || c->stopping || m == c->self || has_link(m)) {", "if (!c->started || c->stopping || m == c->self) {"),
    ("incarnation check forgotten", "src/core/cluster_link.c",
     "    return hello->incarnation < m->public.incarnation ? COHORT_ESTALE : COHORT_OK;\n", "    return COHORT_OK;\n"),
    ("new link does not wait for the old one to be gone", "src/core/cluster_link.c",
     "    if (!old_link_lingers(c, link->member)) {\n", "    if (1) {\n"),
    ("handshake deadline forgotten", "src/core/cluster_dial.c",
     "    cohorti_timer_set(&c->timers, &link->timer, now_ns + c->config.limits.handshake_timeout_ms * COHORTI_NS_PER_MS);\n", ""),
    ("tombstone ignored", "src/core/cluster_link.c", "    if (cohorti_member_removed_before(c, hello->id)) {", "    if (0) {"),
    ("held bytes lost", "src/core/link.c", "    cohorti_frame_reader_feed(&link->reader, link->feeding, link->held_len);\n", ""),
    ("flush forgotten when the socket was full", "src/node/conn_io.c", "    conn->watching_write = waiting;\n",
     "    conn->watching_write = false;\n"),
    ("mail wakes nobody", "src/node/worker.c", "    if (first && !ops->loop_is_current(r->loop)) {", "    if (0) {"),
    ("ended connection keeps its peer's place", "src/node/conn.c",
     "    conn->sender.open = false;\n    cohorti_list_remove(&conn->of_peer);\n", "    conn->sender.open = false;\n"),
    ("bytes under way are not written again", "src/core/resume.c",
     "        cohorti_log_rewind(log, resume->lanes[i].received);\n", ""),
    ("written again from what was acknowledged, not from where the reader stands", "src/core/resume.c",
     "cohorti_log_rewind(log, resume->lanes[i].received);\n        cohorti_log_ack(log, resume->lanes[i].received);",
     "cohorti_log_rewind(log, log->acked);"),
    ("the reader forgets whose bytes it counts", "src/core/inbound.c", "    in->peer_half = peer_half;\n", ""),
    ("what was taken is miscounted", "src/core/inbound.c", "    lane->received += d->frame_bytes;\n",
     "    lane->received += d->frame_bytes + (lane->received == 0);\n"),
    ("loss with a session is not told", "src/core/carry.c", "    lost->lanes[index].end = end;\n    while",
     "    lost->lanes[index].end = at;\n    while"),
    ("the normal lane overtakes itself", "src/core/carry.c", "bool written = at + len <= c->written_max;",
     "bool written = at + len < c->written_max;"),
    ("closed is not told to the cluster", "src/node/control.c",
     "    cohorti_cluster_closed(&node->cluster, cohorti_now(node), conn->number, code);\n}", "}"),
    ("a call that timed out is completed again by its reply", "src/core/calls.c",
     "    return take(c, call == NULL || call->deadline_ns > now_ns ? NULL : call, out);",
     "    if (call == NULL || call->deadline_ns > now_ns) {\n        return false;\n    }\n    *out = call->caller;\n"
     "    cohorti_timer_cancel(&c->others, &call->timer);\n    cohorti_list_remove(&call->in_class);\n    return true;"),
    ("the deadline of a call outlives its reply", "src/core/calls.c",
     "    cohorti_timer_cancel(&c->others, &call->timer);\n    cohorti_list_remove(&call->in_class);\n", ""),
    ("calls forgotten when the member was restarted", "src/node/session.c",
     "        cohorti_requests_end(peer, calls_end, COHORT_ERESTARTED);\n", "        ;\n"),
    ("calls forgotten when the session ends", "src/node/session.c", "    cohorti_requests_end(peer, calls_end, reason);\n", ""),
    ("calls of the next session ended with the last", "src/core/calls.c",
     "take(c, call == NULL || end_id - call->id - 1 > UINT64_MAX / 2 ? NULL : call, out)", "take(c, call, out)"),
    ("reply counted but not delivered", "src/node/conn_read.c", "        cohorti_requests_complete(conn, taken);\n", ""),
    ("reply to another call", "src/node/requests.c", "take(conn->peer, cohorti_read_u64(&r), &caller)",
     "take(conn->peer, cohorti_read_u64(&r) ^ 1, &caller)"),
    ("reply goes to whichever process came", "src/node/requests.c",
     "peer->removed || peer->legacy || peer->outbound.reader != call->reader;", "peer->removed || peer->legacy;"),
    ("timer of calls not set anew", "src/node/requests.c", "    if (deadline_ns >= peer->calls_armed_ns || ",
     "    if (peer->calls_armed_ns != COHORTI_NEVER || "),
    ("credit never renewed", "src/core/resume.c",
     "        lane->limit = mark->limit > lane->limit ? mark->limit : lane->limit;\n", ""),
    ("the threads of a queue take messages in turns", "src/node/queue_put.c",
     "    return &q->shards[cohorti_hash_u64(hash) % q->shard_count];\n",
     "    static uint64_t turn;\n    return &q->shards[(hash, turn++) % q->shard_count];\n"),
    ("the threads of a queue are not woken", "src/node/queue_put.c", "    if (tell && loop != NULL) {\n", "    if (0) {\n"),
    ("messages in queues give no credit back", "src/node/session.c", "    uint64_t before = atomic_fetch_add(&peer->consumed[lane], bytes);\n",
     "    uint64_t before = 0;\n"),
    ("messages in queues hold no credit", "src/core/inbound.c", "    lane->waiting += consumed ? 0 : d->credit_bytes;\n", ""),
    ("a stream half read goes to the next reader", "src/core/carry.c", "written ? NULL : cohorti_stream_at(c->lane, at);",
     "cohorti_stream_at(c->lane, at);"),
    ("a stream is done before it is acknowledged", "src/core/stream.c", "(s->ended && s->end <= lane->log.acked);", "s->ended;"),
    ("an abort is not told", "src/node/incoming.c", "        end_early(conn->peer, in, taken->subject->name, COHORT_ECANCELLED);\n",
     "        let_go(in);\n"),
    ("streams of the process before do not end", "src/node/session.c", "        cohorti_incoming_end_all(peer, COHORT_ERESTARTED);\n",
     "        cohorti_incoming_forget_all(peer);\n"),
    ("a lost stream is told as done", "src/node/stream.c", "core->lost ? reason : COHORT_OK);", "COHORT_OK);"),
    ("a stream that is lost is not told", "src/node/session.c", "    (void)cohorti_streams_take_over(peer, reason);\n", ""),
    ("nobody is told of room", "src/core/outbound.c", "    lane->full = lane->full || full;\n", ""),
    ("room is told again and again", "src/core/resume.c", "            lane->full = lane->starved = false;\n", ""),
    ("a lane is never full", "src/core/outbound.c", "bool full = queued > max / 2 && (queued > max || need > max - queued);",
     "bool full = false;"),
    ("spare blocks stay when nothing waits", "src/core/log.c",
     "unneeded = quiet ? log->spare_min : log->spare_min / 2;", "unneeded = 0;"),
    ("old half resumed", "src/core/resume.c", "return resume->known == ob->half && resume->half == ob->reader;",
     "return ob->reader != 0;"),
]

MAIN = r"""
#include <cohort/sim.h>
#include <stdio.h>
#include <stdlib.h>
static cohort_sim_report report;
int main(int argc, char **argv)
{
    for (size_t i = 0; cohort_sim_scenario_name(i) != NULL; i++) {
        for (unsigned long seed = 1; seed <= 10; seed++) {
            if (cohort_sim_play(cohort_sim_scenario_name(i), 3 + seed % 4, seed, NULL, NULL, &report, NULL) == COHORT_OK && !report.passed) {
                printf("scenario %s, seed %lu: %s\n", cohort_sim_scenario_name(i), seed, report.failure);
                return 1;
            }
        }
    }
    for (unsigned long seed = 1; seed <= strtoul(argv[1], NULL, 10); seed++) {
        if (cohort_sim_play("random", 0, seed, NULL, NULL, &report, NULL) == COHORT_OK && !report.passed) {
            printf("seed %lu: %s\n", seed, report.failure);
            return 1;
        }
    }
    return 0;
}
"""
FLAGS = ["-std=gnu11", "-O1", "-w", "-D_GNU_SOURCE", '-DCOHORTI_VERSION="mutation"', "-Iinclude", "-Isrc", "-I."]


def sources(tree):
    found = []
    for base in ("src", "sim"):
        for folder, _, files in os.walk(os.path.join(tree, base)):
            found += [os.path.relpath(os.path.join(folder, f), tree) for f in files if f.endswith(".c")]
    return sorted(found)


def compile_one(tree, source):
    subprocess.run(["cc", *FLAGS, "-c", source, "-o", source + ".o"], cwd=tree, check=True)


def link(tree):
    objects = [s + ".o" for s in sources(tree)]
    subprocess.run(["cc", "main.o", *objects, "-luv", "-ljansson", "-lpthread", "-o", "mutant"], cwd=tree, check=True)


def swarm(tree):
    """What the swarm said, or None when it noticed nothing. A crash, a failed assertion and a hang are noticed too."""
    done = subprocess.run(["./mutant", SEEDS], cwd=tree, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1)))
    if done.returncode == 0:
        return None
    if done.returncode == -signal.SIGXCPU:
        return "does not end"
    return (done.stdout.strip() or done.stderr.strip() or "ended by signal %d" % -done.returncode).splitlines()[-1]


def main():
    wanted = sys.argv[1:]
    tree = tempfile.mkdtemp(prefix="cohort-mutations-")
    missed = 0
    try:
        for part in ("src", "sim", "include"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(tree, part))
        with open(os.path.join(tree, "main.c"), "w", encoding="utf-8") as file:
            file.write(MAIN)
        subprocess.run(["cc", *FLAGS, "-c", "main.c", "-o", "main.o"], cwd=tree, check=True)
        for source in sources(tree):
            compile_one(tree, source)
        link(tree)
        said = swarm(tree)
        if said is not None:
            print("the swarm fails without any mutation: " + said)
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
            link(tree)
            said = swarm(tree)
            print("%s %s: %s" % ("caught " if said else "MISSED ", name, said or "nothing noticed in %s seeds" % SEEDS), flush=True)
            missed += said is None
            with open(file_path, "w", encoding="utf-8") as file:
                file.write(text)
            compile_one(tree, path)
        return 1 if missed else 0
    finally:
        shutil.rmtree(tree)


if __name__ == "__main__":
    sys.exit(main())
