#include "bench/recording.h"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <pqxx/pqxx>

#include "bench/builtin_subscription.h"
#include "bench/database_copy.h"
#include "bench/patience.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::minutes kPatience{30};
constexpr std::chrono::milliseconds kLookInterval{50};
constexpr const char* kSubscription = "replay";
// Nobody listens there: a receiver that was connected before goes on with its spool.
constexpr const char* kNoStandby = "host=127.0.0.1 port=1";

}  // namespace

Recording::Recording(const Servers& servers, const Workload& workload)
    : servers_(servers),
      ground_{harness::fresh_database(servers.standby, workload.name),
              kSubscription,
              {},
              workload,
              harness::fresh_database(servers.master, workload.name)},
      directory_(std::make_unique<WorkingDirectory>(servers.master.directory().string() + "-" +
                                                    workload.name)) {
  ground_.data_dir = directory_->path() / "receiver";
  for (const auto& database : {ground_.start, ground_.end}) {
    harness::execute(database, "CREATE TABLE mark (round integer PRIMARY KEY)");
    set_up(workload, database);
    harness::execute(database, "VACUUM ANALYZE");
  }
  begin();
  record();
  sender_.reset();
}

Recording::~Recording() {
  try {
    const auto slots =
        fmt::format("FROM pg_replication_slots WHERE database = '{}'", ground_.workload.name);
    const auto master = servers_.master.conninfo();
    harness::eventually([&] {
      return harness::query_value(master, "SELECT count(*) " + slots + " AND active") == "0";
    });
    harness::execute(master, "SELECT pg_drop_replication_slot(slot_name) " + slots);
    for (const auto* cluster : {&servers_.master, &servers_.standby}) {
      harness::execute(cluster->conninfo(),
                       fmt::format("DROP DATABASE {} WITH (FORCE)", ground_.workload.name));
    }
  } catch (const std::exception&) {  // a server is gone, and everything with it
  }
}

// One transaction has gone through when recording begins: from then on the receiver needs no
// standby to go on receiving.
void Recording::begin() {
  harness::execute(ground_.end, fmt::format("CREATE PUBLICATION {} FOR ALL TABLES", builtin()));
  sender_ =
      std::make_unique<Sender>(ground_.end, ground_.workload.name, directory_->path() / "sender");
  Receiver receiver(*sender_, {kSubscription, ground_.start, ground_.data_dir});
  await_receiver(receiver, [](const auto& state) { return state.applied.valid(); });
  const auto begun = mark();
  await_receiver(receiver, [&](const auto& state) { return state.applied >= begun; });
  receiver.stop();
  harness::execute(
      ground_.end,
      fmt::format("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", builtin()));
}

void Recording::record() {
  run_round(ground_.workload, ground_.end, 0, directory_->path());
  const auto end = mark();
  Receiver receiver(*sender_, {kSubscription, kNoStandby, ground_.data_dir});
  await_receiver(receiver, [&](const auto& state) { return state.flushed >= end; });
  receiver.stop();
}

void Recording::await_receiver(Receiver& receiver,
                               const std::function<bool(const ReceiverState&)>& reached) {
  await(
      "the receiver",
      [&] {
        sender_->throw_if_ended();
        return reached(receiver.state());
      },
      kPatience, kLookInterval);
}

// Who shows it shows all that was committed before. The master's position after it.
MasterLsn Recording::mark() {
  harness::execute(ground_.end, fmt::format("INSERT INTO mark VALUES ({})", ++marks_));
  return {parse_lsn(harness::query_value(ground_.end, "SELECT pg_current_wal_lsn()")).value()};
}

Turn Recording::replay_by_builtin() const {
  const DatabaseCopy copy(ground_.start, builtin());
  const auto slot = builtin() + "_run";
  harness::execute(ground_.end, fmt::format("SELECT pg_copy_logical_replication_slot('{}', '{}')",
                                            builtin(), slot));
  BuiltinSubscription subscription(ground_.end, copy.conninfo(), builtin(), slot);
  CpuMeter meter;
  meter.watch("standby", find_backends(servers_.standby.conninfo(), builtin()));
  meter.watch("walsender", find_backends(servers_.master.conninfo(), ground_.workload.name));
  pqxx::connection observer(as_observer(copy.conninfo()));
  meter.begin();
  subscription.enable();
  subscription.await_streaming();
  const auto begin = Clock::now();
  const auto look = fmt::format("SELECT FROM mark WHERE round = {}", marks_);
  auto looked_at = begin;
  await(
      "the built-in subscription's end",
      [&] {
        if (Clock::now() - looked_at > kLookInterval) {
          subscription.throw_if_failed();
          meter.sample();
          looked_at = Clock::now();
        }
        return !pqxx::nontransaction(observer).exec(look).empty();
      },
      kPatience);
  Turn turn;
  turn.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  meter.sample();
  turn.cpu = meter.seconds();
  subscription.disable();
  compare_content(ground_.workload, ground_.end, copy.conninfo());
  return turn;
}

}  // namespace bitacora::bench
