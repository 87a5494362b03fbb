#include "tests/engine/refusal.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

std::vector<std::string> command(const char* name, Changes options, const Changes& changes) {
  for (const auto& [option, value] : changes) options[option] = value;
  std::vector<std::string> arguments{BITACORA_BINARY, name};
  for (const auto& [option, value] : options) {
    if (value.empty()) continue;
    arguments.push_back(option);
    if (value != "true") arguments.push_back(value);
  }
  return arguments;
}

bool is_event(const std::string& line) {
  static const std::regex event(R"(\d{4}-\d\d-\d\dT[0-9:.]+\S* (info|warning|error) event=\w+.*)");
  return std::regex_match(line, event);
}

}  // namespace

std::vector<std::string> sender_command(const Pair& pair, Changes changes) {
  return command("sender",
                 {{"--master", pair.master()},
                  {"--listen", pair.sender_address()},
                  {"--state-dir", pair.state_dir()},
                  {"--stream", pair.name()},
                  {"--http", pair.sender_http()}},
                 changes);
}

std::vector<std::string> receiver_command(const Pair& pair, Changes changes) {
  return command("receiver",
                 {{"--sender", pair.sender_address()},
                  {"--standby", pair.standby()},
                  {"--data-dir", pair.data_dir()},
                  {"--name", pair.name()},
                  {"--stream", pair.name()},
                  {"--http", pair.receiver_http()},
                  {"--no-copy", "true"}},
                 changes);
}

void expect_refused(const Finished& ended, int exit_code, const std::vector<std::string>& words) {
  ASSERT_TRUE(ended.exit_code.has_value()) << "still runs\n" << ended.error_output;
  EXPECT_EQ(*ended.exit_code, exit_code) << ended.error_output;
  EXPECT_EQ(ended.output, "");
  std::vector<std::string> said;
  std::istringstream lines(ended.error_output);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("bitacora: ")) {
      said.push_back(line);
    } else {
      EXPECT_TRUE(is_event(line)) << "neither the last word nor an event: " << line;
    }
  }
  ASSERT_EQ(said.size(), 1u) << ended.error_output;
  for (const auto& word : words) {
    EXPECT_NE(said.front().find(word), std::string::npos)
        << "no \"" << word << "\" in " << said.front();
  }
}

void expect_ends_refused(Process& process, int exit_code, const std::vector<std::string>& words) {
  const auto ended = process.wait(std::chrono::seconds(40));
  expect_refused({ended, process.output(), process.error_output()}, exit_code, words);
}

std::string left_on_master(const Pair& pair) {
  return query_value(pair.master(), R"(
      SELECT concat_ws(', ',
        (SELECT 'slots ' || string_agg(slot_name, ' ') FROM pg_replication_slots
          WHERE database = current_database()),
        (SELECT 'publications ' || string_agg(pubname, ' ') FROM pg_publication),
        (SELECT 'locks ' || string_agg(l.locktype || l.pid, ' ') FROM pg_locks l
           JOIN pg_database d ON d.oid = l.database
          WHERE d.datname = current_database() AND l.locktype = 'advisory')))");
}

std::string left_on_standby(const Pair& pair) {
  const auto table = query_value(pair.standby(), "SELECT to_regclass('bitacora.progress')");
  const auto rows =
      table.empty() ? "0" : query_value(pair.standby(), "SELECT count(*) FROM " + table);
  const auto locks = query_value(pair.standby(), R"(
      SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
       WHERE d.datname = current_database() AND l.locktype = 'advisory')");
  return (table.empty() ? "" : table + " ") + (rows == "0" ? "" : rows + " progress rows ") +
         (locks == "0" ? "" : locks + " locks");
}

std::string registered_receivers(const Pair& pair) {
  std::ifstream file(pair.state_dir() / "sender.toml");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto receivers = text.find("[receivers]");
  if (receivers == std::string::npos) return "";
  const auto entry = text.find(" = ", receivers);
  return entry == std::string::npos ? "" : text.substr(receivers);
}

// A backend ends a moment after the process it served.
void expect_sender_refused(const Pair& pair, const Refusal& refusal) {
  SCOPED_TRACE(refusal.name);
  expect_refused(run(sender_command(pair, refusal.changes)), refusal.exit_code, refusal.words);
  EXPECT_TRUE(eventually([&] { return left_on_master(pair).empty(); })) << left_on_master(pair);
}

void expect_receiver_refused(const Pair& pair, const Refusal& refusal) {
  SCOPED_TRACE(refusal.name);
  expect_refused(run(receiver_command(pair, refusal.changes)), refusal.exit_code, refusal.words);
  EXPECT_TRUE(eventually([&] { return left_on_standby(pair).empty(); })) << left_on_standby(pair);
}

std::string free_address() {
  return fmt::format("127.0.0.1:{}", engine::free_loopback_port().value());
}

void fresh_role(const std::string& conninfo, const std::string& role,
                const std::string& attributes) {
  if (query_value(conninfo, "SELECT count(*) FROM pg_roles WHERE rolname = '" + role + "'") ==
      "1") {
    execute(conninfo, "DROP OWNED BY " + role);
    execute(conninfo, "DROP ROLE " + role);
  }
  execute(conninfo, "CREATE ROLE " + role + " " + attributes);
}

void prepend_hba(const engine::ThrowawayCluster& cluster, const std::string& lines) {
  const auto path = cluster.directory() / "data" / "pg_hba.conf";
  std::ifstream file(path);
  const std::string rest((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::ofstream(path) << lines << rest;
  execute(cluster.conninfo(), "SELECT pg_reload_conf()");
  eventually([&] {  // the postmaster reads it a moment later
    return query_value(cluster.conninfo(),
                       "SELECT pg_conf_load_time() > now() - interval '1 minute'") == "t";
  });
}

int event_lines(const std::string& text) {
  int count = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) count += is_event(line) ? 1 : 0;
  return count;
}

}  // namespace bitacora::harness
