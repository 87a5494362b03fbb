#include "bench/builtin_subscription.h"

#include <fmt/format.h>

#include <chrono>
#include <pqxx/pqxx>
#include <stdexcept>
#include <utility>

#include "bench/patience.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr std::chrono::seconds kPatience{60};

int server_version(const std::string& conninfo) {
  return pqxx::connection(conninfo).server_version() / 10000;
}

}  // namespace

BuiltinSubscription::BuiltinSubscription(std::string master, std::string standby, std::string name)
    : master_(std::move(master)),
      standby_(std::move(standby)),
      name_(std::move(name)),
      slot_(name_) {
  harness::execute(master_, fmt::format("CREATE PUBLICATION {} FOR ALL TABLES", name_));
  subscribe(false, "");
  await_streaming();
}

BuiltinSubscription::BuiltinSubscription(std::string master, std::string standby, std::string name,
                                         std::string slot)
    : master_(std::move(master)),
      standby_(std::move(standby)),
      name_(std::move(name)),
      slot_(std::move(slot)) {
  subscribe(false, fmt::format(", slot_name = '{}', create_slot = false, enabled = false", slot_));
}

BuiltinSubscription::BuiltinSubscription(std::string master, std::string standby, std::string name,
                                         WithCopy)
    : master_(std::move(master)),
      standby_(std::move(standby)),
      name_(std::move(name)),
      slot_(name_) {
  subscribe(true, "");
}

void BuiltinSubscription::subscribe(bool copy, const std::string& options) {
  harness::execute(
      standby_,
      fmt::format("CREATE SUBSCRIPTION {0} CONNECTION '{1}' PUBLICATION {0} "
                  "WITH (copy_data = {2}, binary = true{3}{4})",
                  name_, master_, copy,
                  server_version(standby_) >= 16 ? ", streaming = parallel" : "", options));
}

BuiltinSubscription::~BuiltinSubscription() {
  try {
    harness::execute(standby_, fmt::format("DROP SUBSCRIPTION {}", name_));
  } catch (const std::exception&) {  // a server is gone, and everything with it
  }
}

void BuiltinSubscription::enable() {
  harness::execute(standby_, fmt::format("ALTER SUBSCRIPTION {} ENABLE", name_));
}

void BuiltinSubscription::connect_by(const std::string& conninfo) {
  harness::execute(standby_, fmt::format("ALTER SUBSCRIPTION {} CONNECTION '{}'", name_, conninfo));
}

void BuiltinSubscription::await_streaming() { await_slot(true); }

// Seldom, and by one connection: who looks costs the servers, too.
void BuiltinSubscription::await_copied(std::chrono::milliseconds timeout) {
  pqxx::connection standby(standby_);
  const auto look_at_worker = seldom([&] { throw_if_failed(); }, std::chrono::milliseconds(250));
  await(
      "the built-in subscription's initial sync",
      [&] {
        look_at_worker();
        return pqxx::nontransaction(standby)
            .exec("SELECT bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel")[0][0]
            .as<bool>();
      },
      timeout, std::chrono::milliseconds(20));
}

void BuiltinSubscription::disable() {
  harness::execute(standby_, fmt::format("ALTER SUBSCRIPTION {} DISABLE", name_));
  await_slot(false);
}

void BuiltinSubscription::throw_if_failed() {
  const auto errors = fmt::format(
      "SELECT coalesce(sum(apply_error_count), 0) FROM pg_stat_subscription_stats "
      "WHERE subname = '{}'",
      name_);
  if (server_version(standby_) >= 15 && harness::query_value(standby_, errors) != "0")
    throw std::runtime_error("the built-in subscription's worker failed: see the standby's log");
}

void BuiltinSubscription::await_slot(bool active) {
  const auto look = fmt::format(
      "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND active = {}", slot_,
      active);
  await(
      fmt::format("the built-in subscription's {}", active ? "start" : "end"),
      [&] {
        throw_if_failed();
        return harness::query_value(master_, look) == "1";
      },
      kPatience, std::chrono::milliseconds(10));
}

}  // namespace bitacora::bench
