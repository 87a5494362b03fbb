#include "bench/race.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <pqxx/pqxx>
#include <stdexcept>
#include <thread>
#include <utility>

#include "bench/builtin_subscription.h"
#include "bench/pair.h"
#include "bench/patience.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::minutes kPatience{30};
constexpr std::chrono::seconds kStartPatience{60};
constexpr std::chrono::milliseconds kLookInterval{250};  // at the processes
constexpr std::chrono::milliseconds kSettleTime{300};

// What keeps changes from being applied, beginning with the first row.
class TableLocks {
 public:
  TableLocks(const std::string& conninfo, const std::vector<std::string>& tables)
      : connection_(as_observer(conninfo)), transaction_(connection_) {
    transaction_.exec(fmt::format("LOCK TABLE {} IN EXCLUSIVE MODE", fmt::join(tables, ", ")));
  }
  void release() { transaction_.commit(); }

 private:
  pqxx::connection connection_;
  pqxx::work transaction_;
};

class Race {
 public:
  Race(const Servers& servers, const Workload& workload)
      : workload_(workload),
        databases_(servers, workload, {"", "_apply", "_builtin"}),
        directory_(servers.master.directory().string() + "-" + workload.name),
        builtin_(databases_.master(), databases_.standby("_builtin"), workload.name + "_builtin"),
        sender_(databases_.master(), workload.name, directory_.path() / "sender"),
        catch_up_(identity("catch_up", "")),
        apply_only_(identity("apply_only", "_apply")),
        master_backends_(find_backends(servers.master.conninfo(), workload.name)) {
    for (const auto* suffix : {"", "_apply", "_builtin"}) {
      standby_backends_[suffix] = find_backends(servers.standby.conninfo(), workload.name + suffix);
    }
    figures_.workload = workload.name;
    figures_.title = workload.title;
  }

  Figures run(int rounds) {
    connect_once();
    for (int round = 0; round < rounds; ++round) {
      run_round(workload_, databases_.master(), round, directory_.path());
      mark();
      databases_.settle();
      if (round % 2 == 1) builtin_turn();
      catch_up_turn();
      apply_only_turn();
      if (round % 2 == 0) builtin_turn();
    }
    databases_.compare();
    std::sort(changes_.begin(), changes_.end());
    figures_.changes = changes_[changes_.size() / 2];
    return std::move(figures_);
  }

 private:
  ReceiverIdentity identity(const std::string& name, const std::string& suffix) const {
    return {name, databases_.standby(suffix), directory_.path() / name};
  }

  // Everybody begins at the same position, and is registered, before there is anything to do.
  void connect_once() {
    Receiver catch_up(sender_, catch_up_);
    Receiver apply_only(sender_, apply_only_);
    catch_up.state();  // they listen: connected soon
    apply_only.state();
    await_registered();
    mark();
    for (const auto* suffix : {"", "_apply", "_builtin"}) {
      databases_.await_mark(suffix,
                            seldom(
                                [&] {
                                  check(catch_up);
                                  check(apply_only);
                                  builtin_.throw_if_failed();
                                },
                                kLookInterval),
                            kPatience);
    }
    catch_up.stop();
    apply_only.stop();
    builtin_.disable();
  }

  // The progress row is made when the sender has said where the stream begins.
  void await_registered() {
    for (const auto* suffix : {"", "_apply"}) {
      await(
          "a receiver's first connection",
          [&] {
            sender_.throw_if_ended();
            return harness::query_value(databases_.standby(suffix),
                                        "SELECT to_regclass('bitacora.progress') IS NOT NULL") ==
                   "t";
          },
          kStartPatience, std::chrono::milliseconds(50));
    }
  }

  void mark() { marked_ = databases_.mark(); }

  void check(Receiver& receiver) {
    receiver.throw_if_ended();
    sender_.throw_if_ended();
  }

  // By this process, but for the mark. What the standby shows, its page shows a moment later.
  std::uint64_t rows_applied(Receiver& receiver) {
    ReceiverState state;
    await(
        "the receiver's page to show the end",
        [&] {
          state = receiver.state();
          return state.applied >= marked_;
        },
        kStartPatience);
    return state.rows - 1;
  }

  void await_slot(const std::string& slot, bool active,
                  const std::function<void()>& look_at_processes) {
    pqxx::connection master(as_observer(databases_.master()));
    // A backlog is read from a temporary copy.
    const auto look = fmt::format(
        "SELECT WHERE EXISTS (SELECT FROM pg_replication_slots WHERE active AND (slot_name = '{}' "
        "OR "
        "temporary)) = {}",
        slot, active);
    await(
        fmt::format("the slot {} to be {}", slot, active ? "read" : "left alone"),
        [&] {
          look_at_processes();
          return !pqxx::nontransaction(master).exec(look).empty();
        },
        kStartPatience);
  }

  // The sender leaves the slot when nobody listens, and only then the next turn is alone.
  void stop(Receiver& receiver) {
    figures_.exact_path_retries += receiver.exact_path_retries();
    receiver.stop();
    await_slot(slot(), false, [&] { sender_.throw_if_ended(); });
  }

  std::string slot() const { return "bitacora_" + workload_.name; }

  // `slot`: whose reading begins this turn; none when all has been read.
  Turn timed(const std::string& suffix, const std::string& slot, CpuMeter& meter,
             const std::function<void()>& start, const std::function<void()>& check_processes) {
    Turn turn;
    meter.begin();
    const auto begin = Clock::now();
    const auto elapsed = [&] {
      return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    const auto look_at_processes = seldom(
        [&] {
          check_processes();
          meter.sample();
        },
        kLookInterval);
    start();
    if (!slot.empty()) {
      await_slot(slot, true, look_at_processes);
      turn.start_seconds = elapsed();
    }
    databases_.await_mark(suffix, look_at_processes, kPatience);
    turn.seconds = elapsed();
    meter.sample();
    turn.cpu = meter.seconds();
    return turn;
  }

  void catch_up_turn() {
    std::optional<Receiver> receiver;
    CpuMeter meter;
    meter.watch("sender", [&] { return std::vector<pid_t>{sender_.pid()}; });
    meter.watch("receiver", [&] {
      return receiver ? std::vector<pid_t>{receiver->pid()} : std::vector<pid_t>{};
    });
    meter.watch("walsender", master_backends_);
    meter.watch("standby", standby_backends_[""]);
    figures_.turns[Way::kCatchUp].push_back(timed(
        "", slot(), meter, [&] { receiver.emplace(sender_, catch_up_); },
        [&] { check(*receiver); }));
    changes_.push_back(rows_applied(*receiver));
    stop(*receiver);
  }

  void apply_only_turn() {
    auto tables = workload_.tables;
    tables.emplace_back("mark");
    TableLocks locks(databases_.standby("_apply"), tables);
    Receiver receiver(sender_, apply_only_);
    const auto spooled_before = spool_bytes_;
    await(
        "the spool to hold everything",
        [&] {
          check(receiver);
          const auto state = receiver.state();
          spool_bytes_ = state.spool_bytes;
          return state.flushed >= marked_;
        },
        kPatience, std::chrono::milliseconds(100));
    std::this_thread::sleep_for(kSettleTime);
    CpuMeter meter;
    meter.watch("receiver", [&] { return std::vector<pid_t>{receiver.pid()}; });
    meter.watch("standby", standby_backends_["_apply"]);
    auto turn = timed(
        "_apply", "", meter, [&] { locks.release(); }, [&] { check(receiver); });
    if (spool_bytes_ > spooled_before) turn.spool_bytes = spool_bytes_ - spooled_before;
    figures_.turns[Way::kApplyOnly].push_back(std::move(turn));
    stop(receiver);
  }

  void builtin_turn() {
    CpuMeter meter;
    meter.watch("walsender", master_backends_);
    meter.watch("standby", standby_backends_["_builtin"]);
    figures_.turns[Way::kBuiltin].push_back(timed(
        "_builtin", workload_.name + "_builtin", meter, [&] { builtin_.enable(); },
        [&] { builtin_.throw_if_failed(); }));
    builtin_.disable();
  }

  const Workload& workload_;
  Databases databases_;
  WorkingDirectory directory_;
  BuiltinSubscription builtin_;
  Sender sender_;
  const ReceiverIdentity catch_up_;
  const ReceiverIdentity apply_only_;
  FindPids master_backends_;
  std::map<std::string, FindPids> standby_backends_;
  MasterLsn marked_;
  std::uint64_t spool_bytes_ = 0;  // of the apply_only receiver
  std::vector<std::uint64_t> changes_;
  Figures figures_;
};

}  // namespace

Figures race(const Servers& servers, const Workload& workload, int rounds) {
  return Race(servers, workload).run(rounds);
}

}  // namespace bitacora::bench
