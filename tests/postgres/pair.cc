#include "tests/postgres/pair.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <pqxx/pqxx>
#include <stdexcept>
#include <thread>
#include <utility>

#include "base/check.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

namespace fs = std::filesystem;
constexpr std::chrono::seconds kStopTimeout{20};

template <class T>
T value_or_throw(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(one_line(result.error()));
  return std::move(result).value();
}

fs::path temporary_directory(const std::string& name) {
  auto path = (fs::temp_directory_path() / ("bitacora-pair-" + name + "-XXXXXX")).string();
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("cannot create " + path);
  return path;
}

bool fits_slot_and_database(const std::string& name) {
  constexpr std::size_t kNameMax = 63 - sizeof "bitacora_" + 1;
  return !name.empty() && name.size() <= kNameMax &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_';
         });
}

std::string loopback(int port) { return fmt::format("127.0.0.1:{}", port); }

// False while the receiver has not yet made its schema.
bool applied_at_least(pqxx::connection& standby, const std::string& lsn, const std::string& name) {
  try {
    pqxx::nontransaction session(standby);
    const auto rows = session.exec_params(
        "SELECT applied_lsn >= $1::pg_lsn FROM bitacora.progress WHERE subscription = $2", lsn,
        name);
    return !rows.empty() && !rows[0][0].is_null() && rows[0][0].as<bool>();
  } catch (const pqxx::undefined_table&) {
    return false;
  }
}

}  // namespace

engine::ThrowawayCluster& shared_master() {
  static auto cluster = value_or_throw(engine::ThrowawayCluster::make("master"));
  return cluster;
}

engine::ThrowawayCluster& shared_standby() {
  static auto cluster = value_or_throw(engine::ThrowawayCluster::make("standby"));
  return cluster;
}

std::string case_name() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  CHECK(info != nullptr);
  auto name = fmt::format("{}_{}", info->test_suite_name(), info->name());
  for (char& c : name) {
    const auto byte = static_cast<unsigned char>(c);
    c = std::isalnum(byte) != 0 ? static_cast<char>(std::tolower(byte)) : '_';
  }
  return name;
}

Pair::Pair(engine::ThrowawayCluster& master, engine::ThrowawayCluster& standby, PairOptions options)
    : options_(std::move(options)),
      master_(master),
      standby_(standby),
      directory_(temporary_directory(options_.name)),
      sender_port_(value_or_throw(engine::free_loopback_port())),
      sender_http_port_(value_or_throw(engine::free_loopback_port())),
      receiver_http_port_(value_or_throw(engine::free_loopback_port())) {
  CHECK(fits_slot_and_database(options_.name));
  fs::create_directories(state_dir());
  fs::create_directories(data_dir());
  if (options_.master_database.empty()) {
    options_.master_database = options_.name;
    fresh_database(master_, options_.name);
  }
  if (options_.standby_database.empty()) {
    options_.standby_database = options_.name;
    fresh_database(standby_, options_.name);
  }
}

Pair::~Pair() {
  receiver_.reset();
  sender_.reset();
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
  try {  // so that the shared master's slots and WAL do not run out over the cases
    const auto drop = fmt::format(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
        "WHERE database = '{}' AND NOT active",
        options_.master_database);
    eventually([&] {
      execute(master_.conninfo(), drop);
      return query_value(master_.conninfo(),
                         fmt::format("SELECT count(*) FROM pg_replication_slots "
                                     "WHERE database = '{}'",
                                     options_.master_database)) == "0";
    });
  } catch (const std::exception&) {  // the case has stopped its own master: nothing left to drop
  }
}

void Pair::on_master(const std::string& sql) const { execute(master(), sql); }

void Pair::on_standby(const std::string& sql) const { execute(standby(), sql); }

void Pair::on_both(const std::string& sql) const {
  on_master(sql);
  on_standby(sql);
}

bool Pair::same_content(const std::string& table) const {
  return table_content(master(), table) == table_content(standby(), table);
}

std::string Pair::binary() const {
  return options_.binary.empty() ? BITACORA_BINARY : options_.binary;
}

std::vector<std::string> Pair::environment(const std::vector<std::string>& more) const {
  auto all = options_.environment;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<std::string> Pair::sender_command() const {
  std::vector<std::string> command{binary(),   "sender",         "--master",    master(),
                                   "--listen", sender_address(), "--state-dir", state_dir(),
                                   "--stream", options_.name,    "--http",      sender_http()};
  command.insert(command.end(), options_.sender_arguments.begin(), options_.sender_arguments.end());
  return command;
}

std::vector<std::string> Pair::receiver_command() const {
  std::vector<std::string> command{binary(),    "receiver",     "--sender",   sender_address(),
                                   "--standby", standby(),      "--data-dir", data_dir(),
                                   "--name",    options_.name,  "--stream",   options_.name,
                                   "--http",    receiver_http()};
  if (!options_.copy) command.emplace_back("--no-copy");
  command.insert(command.end(), options_.receiver_arguments.begin(),
                 options_.receiver_arguments.end());
  return command;
}

void Pair::start() {
  start_sender();
  wait_for_slot();
  start_receiver();
}

void Pair::start_sender(const std::vector<std::string>& environment) {
  CHECK(!sender_ || !sender_->running());
  retire(sender_, "sender");
  sender_.emplace(sender_command(), this->environment(environment));
}

void Pair::wait_for_slot() {
  // It is listed before it has found its consistent point: what is written until then is not sent.
  const auto sql =
      "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"
      " AND slot_name = 'bitacora_" +
      options_.name + "'";
  eventually([&] {
    throw_if_ended(sender_, "sender");
    return query_value(master(), sql) == "1";
  });
}

void Pair::start_receiver(const std::vector<std::string>& environment) {
  CHECK(!receiver_ || !receiver_->running());
  retire(receiver_, "receiver");
  receiver_.emplace(receiver_command(), this->environment(environment));
}

int Pair::stop_sender() { return stop(sender_, "sender"); }

int Pair::stop_receiver() { return stop(receiver_, "receiver"); }

void Pair::stop() {
  if (receiver_) stop_receiver();
  if (sender_) stop_sender();
}

int Pair::stop(std::optional<Process>& process, const char* role) {
  CHECK(process.has_value());
  send_signal(*process, SIGTERM);
  const auto exit_code = process->wait(kStopTimeout);
  if (!exit_code) process->kill();
  retire(process, role);
  if (!exit_code) {
    throw std::runtime_error(fmt::format("the {} ignored SIGTERM\n{}", role, story()));
  }
  return *exit_code;
}

void Pair::kill_sender() {
  sender_.value().kill();
  retire(sender_, "sender");
}

void Pair::kill_receiver() {
  receiver_.value().kill();
  retire(receiver_, "receiver");
}

void Pair::retire(std::optional<Process>& process, const char* role) {
  if (!process) return;
  past_ += fmt::format("--- {} (ended)\n{}{}", role, process->output(), process->error_output());
  process.reset();
}

void Pair::throw_if_ended(std::optional<Process>& process, const char* role) {
  if (!process || process->running()) return;
  throw std::runtime_error(fmt::format("the {} ended by itself, exit code {}\n{}", role,
                                       process->wait(std::chrono::seconds(0)).value_or(-1),
                                       story()));
}

void Pair::wait_applied(std::chrono::milliseconds timeout) {
  const auto lsn = query_value(master(), "SELECT pg_current_wal_lsn()");
  pqxx::connection session(standby());
  const bool applied = eventually(
      [&] {
        throw_if_ended(sender_, "sender");
        throw_if_ended(receiver_, "receiver");
        return applied_at_least(session, lsn, options_.name);
      },
      timeout);
  if (!applied) {
    throw std::runtime_error(
        fmt::format("{} is not applied after {} ms\n{}", lsn, timeout.count(), story()));
  }
}

Finished Pair::bitacora(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), BITACORA_BINARY);
  return run(std::move(arguments));
}

int Pair::said(const std::string& words) const {
  const auto text = story();
  int times = 0;
  for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++times;
  return times;
}

std::string Pair::sender_address() const { return loopback(sender_port_); }

std::string Pair::sender_http() const { return loopback(sender_http_port_); }

std::string Pair::receiver_http() const { return loopback(receiver_http_port_); }

std::string Pair::story() const {
  auto text = past_;
  if (sender_) text += "--- sender\n" + sender_->output() + sender_->error_output();
  if (receiver_) text += "--- receiver\n" + receiver_->output() + receiver_->error_output();
  return text;
}

}  // namespace bitacora::harness
