/* SPDX-License-Identifier: Apache-2.0
 *
 * The subcommands: each takes its own command line and returns what to exit with.
 */
#ifndef COHORT_CLI_COMMANDS_H
#define COHORT_CLI_COMMANDS_H

int command_agent(int argc, char **argv);
int command_members(int argc, char **argv);
int command_add(int argc, char **argv);
int command_remove(int argc, char **argv);
int command_config(int argc, char **argv);
int command_decode(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_send(int argc, char **argv);
int command_send_file(int argc, char **argv);
int command_broadcast(int argc, char **argv);
int command_request(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_ping(int argc, char **argv);
int command_listen(int argc, char **argv);
int command_watch(int argc, char **argv);
int command_definition(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_sim(int argc, char **argv);

#endif
