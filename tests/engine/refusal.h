// What a process that cannot do its work must leave behind: one line that helps, and nothing else.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/postgres/pair.h"
#include "tests/postgres/process.h"

namespace bitacora::harness {

// Option → value, over the usual ones of a pair; an empty value leaves the option out.
using Changes = std::map<std::string, std::string>;

std::vector<std::string> sender_command(const Pair& pair, Changes changes = {});
std::vector<std::string> receiver_command(const Pair& pair, Changes changes = {});

// One way to start wrongly, and words of its line: of what is wrong, where, and how to mend it.
struct Refusal {
  std::string name;
  Changes changes;
  int exit_code;
  std::vector<std::string> words;
};

// The exit code, exactly one line "bitacora: ..." with all the words, beside it event log lines
// only.
void expect_refused(const Finished& ended, int exit_code, const std::vector<std::string>& words);

// The same of a process that ran and must end by itself.
void expect_ends_refused(Process& process, int exit_code, const std::vector<std::string>& words);

// Slots, publications and locks in the master's database, the progress table, its rows and locks in
// the standby's; empty when there is nothing.
std::string left_on_master(const Pair& pair);
std::string left_on_standby(const Pair& pair);

// The table [receivers] of the sender's state file; empty when it has none.
std::string registered_receivers(const Pair& pair);

void expect_sender_refused(const Pair& pair, const Refusal& refusal);
void expect_receiver_refused(const Pair& pair, const Refusal& refusal);

// A loopback address nobody listens on.
std::string free_address();

// A role on the cluster with these attributes, without a trace of an earlier one.
void fresh_role(const std::string& conninfo, const std::string& role,
                const std::string& attributes);

// Puts lines before all others of the server's pg_hba.conf.
void prepend_hba(const engine::ThrowawayCluster& cluster, const std::string& lines);

int event_lines(const std::string& text);

}  // namespace bitacora::harness
