#include "wal/backlog_fetcher.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/fault_point.h"
#include "base/interruptible_sleep.h"

namespace bitacora::wal {
namespace {

constexpr std::chrono::milliseconds kLookInterval{50};  // at `stop`, while nothing comes
constexpr std::size_t kChunkBytes = 64u << 10;          // between the two threads

// WAL between two positions; 0 when they are the other way round.
std::uint64_t bytes_between(MasterLsn from, MasterLsn to) {
  return to > from ? to.value - from.value : 0;
}

}  // namespace

BacklogFetcher::BacklogFetcher(SlotCopy& copy, FetchOptions options, PluginOptions plugin_options,
                               MasterLsn start)
    : copy_(copy),
      options_(options),
      plugin_options_(std::move(plugin_options)),
      confirmed_(start),
      fetched_(options_.ahead_bytes),
      thread_([this, start](const std::stop_token& stop) {
        auto end = fetch(start, stop);
        put(end.ok() ? Result<Fetched>(Fetched(*end)) : Result<Fetched>(end.error()), 0, stop);
      }) {}

BacklogFetcher::~BacklogFetcher() {
  thread_.request_stop();
  fetched_.close();
}

Result<std::optional<Fetched>> BacklogFetcher::next(Clock::time_point deadline) {
  auto fetched = fetched_.pop(deadline);
  if (!fetched) return std::optional<Fetched>{};
  if (!fetched->ok()) return fetched->error();
  return std::optional<Fetched>(std::move(*fetched).value());
}

void BacklogFetcher::put(Result<Fetched> fetched, std::size_t bytes, const std::stop_token& stop) {
  while (!stop.stop_requested() &&
         fetched_.push(fetched, bytes, Clock::now() + kLookInterval) == Pushed::kTimedOut) {
  }
}

Result<CatchUpEnd> BacklogFetcher::fetch(MasterLsn start, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto position, copy_.position());
  if (position.read < start) {
    RETURN_IF_ERROR(copy_.skip_to(start));
    ASSIGN_OR_RETURN(position, copy_.position());
  }
  bool in_large_transaction = false;
  while (!stop.stop_requested()) {
    put(Fetched(position), 0, stop);
    RETURN_IF_ERROR(confirm());
    if (fetched_.bytes() >= options_.begin_below_bytes) {
      wait_for_room(stop);
      ASSIGN_OR_RETURN(position, copy_.position());  // the WAL has grown meanwhile
    }
    const auto left = bytes_between(position.read, position.wal_end);
    const auto read_for_nothing = bytes_between(position.restart, position.read);
    const auto long_enough = (in_large_transaction ? 6 : 2) * read_for_nothing;
    auto range = std::max(options_.range_bytes, long_enough);
    if (left < range + options_.range_bytes) range = left;  // no small rest
    if (left < options_.near_bytes) return CatchUpEnd::kNear;
    if (read_for_nothing + range > options_.read_bytes_max) return CatchUpEnd::kTooLarge;
    ASSIGN_OR_RETURN(const bool any, fetch_range(MasterLsn{position.read.value + range}, stop));
    if (copy_.in_range()) break;
    if (!any && range == left && read_for_nothing + range >= options_.in_progress_bytes)
      return CatchUpEnd::kInProgress;
    in_large_transaction = !any;  // most likely: to go on in steps would read it several times
    ASSIGN_OR_RETURN(position, copy_.position());
  }
  return CatchUpEnd::kRestart;
}

void BacklogFetcher::wait_for_room(const std::stop_token& stop) const {
  while (fetched_.bytes() >= options_.begin_below_bytes && !stop.stop_requested())
    interruptible_sleep(kLookInterval, stop);
}

// Whether anything was in it.
Result<bool> BacklogFetcher::fetch_range(MasterLsn upto, const std::stop_token& stop) {
  RETURN_IF_ERROR(copy_.begin_range(upto, plugin_options_));
  fault_point("range.begun");
  bool any = false;
  FetchedMessages chunk;
  const auto hand_over = [&] {
    const auto bytes = chunk.bytes.size();
    if (bytes > 0) put(Fetched(std::exchange(chunk, {})), bytes, stop);
  };
  while (copy_.in_range() && !stop.stop_requested()) {
    ASSIGN_OR_RETURN(const auto message, copy_.receive());
    if (message) {
      any = true;
      append_big_endian(chunk.bytes, static_cast<std::uint32_t>(message->size()));
      chunk.bytes += *message;
      if (chunk.bytes.size() >= kChunkBytes) hand_over();
    } else if (copy_.in_range()) {
      copy_.wait(kLookInterval);
    }
  }
  hand_over();
  fault_point("range.fetched");
  if (copy_.in_range()) copy_.abandon();
  return any;
}

// While nobody streams from the slot, nobody else moves it.
Result<void> BacklogFetcher::confirm() {
  const MasterLsn flushed{flushed_};
  if (flushed <= confirmed_) return {};
  RETURN_IF_ERROR(copy_.confirm_slot(flushed));
  confirmed_ = flushed;
  return {};
}

}  // namespace bitacora::wal
