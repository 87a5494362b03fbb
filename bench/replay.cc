#include "bench/replay.h"

#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "apply/applier.h"
#include "apply/progress.h"
#include "apply/replication_origin.h"
#include "apply/standby_catalog.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "base/name_pattern.h"
#include "tests/postgres/database.h"
#include "transport/change_feed.h"
#include "transport/posix_storage.h"

namespace bitacora::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFeedBytesMax = 32u << 20;  // as the receiver has it
constexpr std::chrono::milliseconds kQuietInterval{200};

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// What earlier runs have left free goes back to the system, or it would count in this one.
void reset_peak_memory() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

std::uint64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Its processes' CPU time can be seen from here.
bool is_local(const std::string& conninfo) {
  return harness::query_value(
             conninfo, "SELECT coalesce(inet_server_addr() = inet_client_addr(), true)") == "t";
}

class Replay {
 public:
  Replay(transport::Spool& spool, const ReplayOptions& options) : spool_(spool), options_(options) {
    applier_options_.subscription = options.subscription;
    applier_options_.conninfo = options.standby;
    applier_options_.path = options.path;
    if (options.set_rows_min) {
      applier_options_.fast.set_rows_min = *options.set_rows_min;
      applier_options_.fast.staged_rows_min = *options.set_rows_min;
    }
    meter_.watch("receiver", [] { return std::vector<pid_t>{getpid()}; });
    if (is_local(options.standby)) {
      const auto database = harness::query_value(options.standby, "SELECT current_database()");
      meter_.watch("standby", find_backends(options.standby, database));
    }
  }

  // A refusal of the fast path is answered as the receiver does it.
  Result<Replayed> run() {
    reset_peak_memory();
    meter_.begin();
    const auto begin = Clock::now();
    while (true) {
      const auto ended = run_session();
      if (ended.ok()) break;
      if (!refusal_) return ended.error();
      applier_options_.exact_through = std::max(applier_options_.exact_through, refusal_->through);
      if (!refusal_->table.empty())
        applier_options_.exact_tables[refusal_->table] = Clock::time_point::max();
      ++replayed_.exact_path_retries;
    }
    replayed_.seconds = seconds_between(begin, committed_at_);
    replayed_.cpu = meter_.seconds();
    replayed_.peak_memory_bytes = peak_memory_bytes();
    return std::move(replayed_);
  }

 private:
  // Marked with an origin, as a receiver's sessions are.
  Result<apply::StandbySession> connect() const {
    ASSIGN_OR_RETURN(auto session, apply::StandbySession::connect(
                                       options_.standby, "bitacora_" + options_.subscription));
    RETURN_IF_ERROR(apply::mark_what_is_applied(session));
    return session;
  }

  Result<void> run_session() {
    ASSIGN_OR_RETURN(auto standby, connect());
    ASSIGN_OR_RETURN(const auto from, position(standby));
    ASSIGN_OR_RETURN(auto everything, TablePatterns::parse({}));
    apply::StandbyCatalog catalog(options_.standby);
    apply::TableMap tables(catalog, {std::move(everything)});
    transport::ChangeFeed feed(spool_, kFeedBytesMax);
    RETURN_IF_ERROR(feed.seek(from));
    applier_options_.on_group_end = [&feed] { feed.wake(); };
    std::vector<apply::StandbySession> others;
    while (static_cast<int>(others.size()) + 1 < options_.workers) {
      ASSIGN_OR_RETURN(auto other, connect());
      others.push_back(std::move(other));
    }
    apply::Applier applier(standby, tables, applier_options_, from, others);
    RETURN_IF_ERROR(applier.start());
    const auto ended = apply_everything(feed, applier);
    meter_.sample();
    refusal_ = applier.refusal();
    replayed_.transactions += applier.counts().transactions;
    replayed_.rows += applier.counts().rows;
    return ended;
  }

  Result<MasterLsn> position(apply::StandbySession& standby) {
    ASSIGN_OR_RETURN(const auto row, apply::load_progress(standby, options_.subscription));
    if (row) return row->applied_lsn;
    const auto begin = spool_.begin_lsn();
    RETURN_IF_ERROR(apply::create_progress(standby, options_.subscription,
                                           {spool_.identity().value_or(pb::Identity{}), begin}));
    return begin;
  }

  Result<void> apply_everything(transport::ChangeFeed& feed, apply::Applier& applier) {
    auto taken_at = Clock::now();
    const auto note_commit = [&](MasterLsn before) {
      if (applier.applied() == before) return;
      committed_at_ = Clock::now();
      replayed_.group_seconds.push_back(
          seconds_between(std::exchange(taken_at, committed_at_), committed_at_));
    };
    while (!feed.live()) {
      ASSIGN_OR_RETURN(const auto event, feed.next(Clock::now() + kQuietInterval));
      const auto before = applier.applied();
      if (const auto* batch = std::get_if<transport::SpoolBatch>(&event)) {
        replayed_.bytes += batch->bytes;
        RETURN_IF_ERROR(applier.take(batch->changes, feed.more_waiting()));
      }
      note_commit(before);
    }
    while (applier.in_flight()) {  // with several connections
      const auto before = applier.applied();
      RETURN_IF_ERROR(applier.tick());
      note_commit(before);
      if (!applier.in_flight()) break;
      const auto woken = feed.next(Clock::now() + kQuietInterval);
      if (!woken.ok()) return woken.error();
    }
    return {};
  }

  transport::Spool& spool_;
  const ReplayOptions options_;
  apply::ApplierOptions applier_options_;
  CpuMeter meter_;
  Replayed replayed_;
  Clock::time_point committed_at_ = Clock::now();
  std::optional<apply::PathRefusal> refusal_;
};

template <class T>
T or_throw(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(one_line(result.error()));
  return std::move(*result);
}

}  // namespace

RecordedSpool::RecordedSpool(const std::string& data_dir)
    : checkpoint_(or_throw(apply::Checkpoint::open(data_dir))) {
  auto storage = or_throw(transport::open_posix_storage(data_dir + "/spool"));
  spool_ = or_throw(transport::Spool::open(std::move(storage), {}, std::nullopt));
  if (!spool_->identity()) throw std::runtime_error("there is no spool in " + data_dir);
}

Replayed replay(transport::Spool& spool, const ReplayOptions& options) {
  return or_throw(Replay(spool, options).run());
}

}  // namespace bitacora::bench
