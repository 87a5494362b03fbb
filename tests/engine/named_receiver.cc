#include "tests/engine/named_receiver.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "tests/postgres/database.h"

namespace bitacora::harness {
NamedReceiver::NamedReceiver(const Pair& pair, engine::ThrowawayCluster& standby, std::string name)
    : pair_(pair),
      name_(std::move(name)),
      standby_(fresh_database(standby, pair.name() + "_" + name_)),
      http_(free_address()) {}

std::filesystem::path NamedReceiver::data_dir() const {
  return pair_.data_dir().parent_path() / ("data-" + name_);
}

void NamedReceiver::start(const Changes& changes) {
  retire();
  Changes own{
      {"--standby", standby_}, {"--name", name_}, {"--data-dir", data_dir()}, {"--http", http_}};
  for (const auto& [option, value] : changes) own[option] = value;
  process_.emplace(receiver_command(pair_, own));
}

int NamedReceiver::stop() {
  send_signal(*process_, SIGTERM);
  const auto exit_code = process_->wait(std::chrono::seconds(20));
  if (!exit_code) throw std::runtime_error("receiver " + name_ + " ignored SIGTERM\n" + story());
  retire();
  return *exit_code;
}

void NamedReceiver::kill() {
  process_->kill();
  retire();
}

void NamedReceiver::forget_everything() {
  std::filesystem::remove_all(data_dir());
  if (query_value(standby_, "SELECT to_regclass('bitacora.progress') IS NOT NULL") != "t") return;
  execute(standby_, fmt::format("DELETE FROM bitacora.progress WHERE subscription = '{}'", name_));
}

bool NamedReceiver::has_applied(const std::string& lsn) const {
  return query_value(standby_, "SELECT to_regclass('bitacora.progress') IS NOT NULL") == "t" &&
         query_value(standby_,
                     fmt::format("SELECT count(*) FROM bitacora.progress WHERE subscription = '{}' "
                                 "AND applied_lsn >= '{}'",
                                 name_, lsn)) == "1";
}

void NamedReceiver::wait_applied(const std::string& lsn, std::chrono::milliseconds timeout) {
  const bool applied = eventually(
      [&] {
        if (!running()) throw std::runtime_error("receiver " + name_ + " ended\n" + story());
        return has_applied(lsn);
      },
      timeout);
  if (!applied) throw std::runtime_error(name_ + " does not show " + lsn + "\n" + story());
}

void NamedReceiver::expect_refused_for_state(const std::vector<std::string>& words) {
  SCOPED_TRACE(name_);
  expect_ends_refused(process(), 3, words);
}

void NamedReceiver::retire() {
  if (!process_) return;
  past_ += process_->error_output();
  process_.reset();
}

std::string NamedReceiver::story() const {
  return fmt::format("--- receiver {}\n{}{}", name_, past_,
                     process_ ? process_->error_output() : "");
}

}  // namespace bitacora::harness
