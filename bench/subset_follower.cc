#include "bench/subset_follower.h"

#include <pqxx/pqxx>
#include <utility>

#include <fmt/format.h>

#include "bench/patience.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr std::chrono::minutes kPatience{5};
constexpr std::chrono::milliseconds kLookInterval{20};

std::string create_table(int number) {
  return fmt::format("CREATE TABLE {} (id bigint PRIMARY KEY, hits bigint, note text)",
                     subset_table(number));
}

std::string patterns(const Subset& subset) {
  std::string all;
  for (const int table : subset.tables)
    all += (all.empty() ? "public." : ",public.") + subset_table(table);
  return all;
}

// Whoever shows the mark of its last table shows everything before: they are set in this order.
bool shows(const std::string& standby, const Subset& subset, int mark) {
  pqxx::connection connection(as_observer(standby));
  const auto look =
      fmt::format("SELECT FROM {} WHERE id = {}", subset_table(subset.tables.back()), -mark);
  return !pqxx::nontransaction(connection).exec(look).empty();
}

}  // namespace

std::string subset_table(int number) { return fmt::format("part_{}", number); }

SubsetFollower::SubsetFollower(const Servers& servers, std::string name, int tables,
                               std::vector<Subset> subsets)
    : servers_(servers), name_(std::move(name)), tables_(tables), subsets_(std::move(subsets)) {
  const auto master = harness::fresh_database(servers_.master, name_);
  for (int i = 1; i <= tables_; ++i) harness::execute(master, create_table(i));
  for (const auto& subset : subsets_) {
    const auto database = harness::fresh_database(servers_.standby, subset.database);
    for (const int table : subset.tables) harness::execute(database, create_table(table));
  }
}

void SubsetFollower::await_everything() {
  ++marks_;
  {
    pqxx::connection connection(as_observer(master()));
    for (int i = 1; i <= tables_; ++i) {
      pqxx::nontransaction(connection)
          .exec(fmt::format("INSERT INTO {} VALUES ({}, 0, 'mark')", subset_table(i), -marks_));
    }
  }
  const auto look_at_processes = seldom([&] { throw_if_failed(); }, std::chrono::seconds(1));
  for (const auto& subset : subsets_) {
    await(
        "everything in " + subset.database,
        [&] {
          look_at_processes();
          return shows(standby(subset), subset, marks_);
        },
        kPatience, kLookInterval);
  }
  await(
      name_ + " to settle", [&] { return settled(); }, kPatience, kLookInterval);
}

void SubsetFollower::compare() const {
  for (const auto& subset : subsets_) {
    Workload workload{subset.database, "a subset", {}, {}};
    for (const int table : subset.tables) workload.tables.push_back(subset_table(table));
    compare_content(workload, master(), standby(subset));
  }
}

ReceiverFollower::ReceiverFollower(const Servers& servers, const std::string& name, int tables,
                                   std::vector<Subset> subsets)
    : SubsetFollower(servers, name, tables, std::move(subsets)),
      directory_(servers.master.directory().string() + "-" + name),
      sender_(master(), name, directory_.path() / "sender") {}

void ReceiverFollower::follow() {
  for (const auto& subset : subsets()) {
    const ReceiverIdentity identity{subset.database, standby(subset),
                                    directory_.path() / subset.database};
    receivers_.push_back(std::make_unique<Receiver>(
        sender_, identity, std::vector<std::string>{"--tables", patterns(subset)}));
  }
}

void ReceiverFollower::leave() {
  for (auto& receiver : receivers_) receiver->stop();
  receivers_.clear();
}

void ReceiverFollower::throw_if_failed() {
  sender_.throw_if_ended();
  for (auto& receiver : receivers_) receiver->throw_if_ended();
}

void ReceiverFollower::watch(CpuMeter& meter) {
  meter.watch("sender", [this] { return std::vector<pid_t>{sender_.pid()}; });
  meter.watch("receivers", [this] {
    std::vector<pid_t> pids;
    for (const auto& receiver : receivers_) pids.push_back(receiver->pid());
    return pids;
  });
}

bool ReceiverFollower::settled() {
  return sender_.receivers_read_for_together() == static_cast<int>(subsets().size());
}

SubscriptionFollower::SubscriptionFollower(const Servers& servers, const std::string& name,
                                           int tables, std::vector<Subset> subsets)
    : SubsetFollower(servers, name, tables, std::move(subsets)) {
  for (const auto& subset : this->subsets()) {
    std::string published;
    for (const int table : subset.tables)
      published += (published.empty() ? "" : ", ") + subset_table(table);
    harness::execute(master(),
                     fmt::format("CREATE PUBLICATION {} FOR TABLE {}", subset.database, published));
    harness::execute(master(),
                     fmt::format("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
                                 subset.database));
    subscriptions_.push_back(std::make_unique<BuiltinSubscription>(
        master(), standby(subset), subset.database, subset.database));
  }
}

void SubscriptionFollower::follow() {
  for (auto& subscription : subscriptions_) subscription->enable();
  for (auto& subscription : subscriptions_) subscription->await_streaming();
}

void SubscriptionFollower::leave() {
  for (auto& subscription : subscriptions_) subscription->disable();
}

void SubscriptionFollower::throw_if_failed() {
  for (auto& subscription : subscriptions_) subscription->throw_if_failed();
}

}  // namespace bitacora::bench
