#include "wal/catch_up_reader.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/log.h"

namespace bitacora::wal {
namespace {

constexpr std::chrono::milliseconds kLookInterval{100};  // at `stop`, while nothing comes

// WAL between two positions; 0 when they are the other way round.
std::uint64_t bytes_between(MasterLsn from, MasterLsn to) {
  return to > from ? to.value - from.value : 0;
}

}  // namespace

CatchUpReader::CatchUpReader(CatchUpOptions options, BatchSink& sink, WakeUp& wake_up)
    : options_(std::move(options)),
      connector_(options_.conninfo, options_.application_name),
      sink_(sink),
      wake_up_(wake_up) {}

Result<CatchUpEnd> CatchUpReader::run(MasterLsn start_lsn, std::stop_token stop) {
  builder_ = BatchBuilder{};
  delivered_open_transaction_ = false;
  confirmed_ = start_lsn;
  ASSIGN_OR_RETURN(auto connection, connector_.connect());
  ASSIGN_OR_RETURN(const auto system, identify_system(connection.get()));
  RETURN_IF_ERROR(sink_.on_connected(system));
  ASSIGN_OR_RETURN(auto copy, SlotCopy::make(std::move(connection), options_.slot));
  RETURN_IF_ERROR(sink_.on_started());
  decoder_ = PgOutputDecoder(PgOutputOptions{proto_version_for(copy.server_version()), false});
  plugin_options_ = plugin_options(copy.server_version(), options_.publication, options_.binary);
  spdlog::info("event=catching_up slot={} from={} through={}", options_.slot, to_string(start_lsn),
               connector_.through());
  const auto end = read(copy, start_lsn, stop);
  if (end.ok()) return end;
  Error error = end.error();
  // Some that heal elsewhere, a full disk say, must not be waited for here.
  error.recovery = copy.connected() ? Recovery::kStop : Recovery::kRetry;
  return error;
}

Result<CatchUpEnd> CatchUpReader::read(SlotCopy& copy, MasterLsn start_lsn,
                                       const std::stop_token& stop) {
  ASSIGN_OR_RETURN(auto position, copy.position());
  if (position.read < start_lsn) {
    RETURN_IF_ERROR(copy.skip_to(start_lsn));
    ASSIGN_OR_RETURN(position, copy.position());
  }
  while (true) {
    sink_.on_master_position(position.wal_end, position.master_clock_usec);
    if (stop.stop_requested() || sink_.wants_restart()) return CatchUpEnd::kRestart;
    const auto left = bytes_between(position.read, position.wal_end);
    const auto read_for_nothing = bytes_between(position.restart, position.read);
    const auto range = std::min(left, std::max(options_.range_bytes, read_for_nothing));
    if (left < options_.near_bytes) return CatchUpEnd::kNear;
    if (read_for_nothing + range > options_.read_bytes_max) return CatchUpEnd::kTooLarge;
    RETURN_IF_ERROR(read_range(copy, MasterLsn{position.read.value + range}, stop));
    if (copy.in_range()) return CatchUpEnd::kRestart;
    ASSIGN_OR_RETURN(position, copy.position());
    builder_.append_idle_position(position.read);
    deliver(stop);
    RETURN_IF_ERROR(confirm(copy));
  }
}

Result<void> CatchUpReader::read_range(SlotCopy& copy, MasterLsn upto,
                                       const std::stop_token& stop) {
  RETURN_IF_ERROR(copy.begin_range(upto, plugin_options_));
  while (copy.in_range()) {
    const bool unwanted = !builder_.in_transaction() && sink_.wants_restart();
    if (unwanted || stop.stop_requested()) break;
    ASSIGN_OR_RETURN(const auto message, copy.receive());
    if (message) {
      RETURN_IF_ERROR(take_in(*message, stop));
    } else if (copy.in_range()) {
      copy.wait(wake_up_.descriptor(), kLookInterval);
      wake_up_.clear();
    }
  }
  if (!copy.in_range()) return {};
  copy.abandon();
  deliver(stop);
  return {};
}

Result<void> CatchUpReader::take_in(std::string_view message, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto* decoded, decoder_.decode(message));
  RETURN_IF_ERROR(builder_.append(*decoded));
  const auto enough = builder_.in_transaction() ? options_.batch_bytes_max : options_.batch_bytes;
  while (builder_.bytes() >= enough && !stop.stop_requested()) deliver(stop);
  return {};
}

void CatchUpReader::deliver(const std::stop_token& stop) {
  if (builder_.empty()) return;
  auto batch = std::make_shared<proto::EncodedBatch>(builder_.take());
  delivered_open_transaction_ = delivered_open_transaction_ || batch->transaction_open;
  const proto::SharedBatch shared = std::move(batch);
  while (!stop.stop_requested()) {
    if (!sink_.offer(shared, Clock::now() + kLookInterval)) continue;
    delivered_open_transaction_ = shared->transaction_open;
    return;
  }
}

// While nobody streams from the slot, nobody else moves it.
Result<void> CatchUpReader::confirm(SlotCopy& copy) {
  const auto flushed = sink_.status().flushed;
  if (bytes_between(confirmed_, flushed) < options_.confirm_bytes) return {};
  RETURN_IF_ERROR(copy.confirm_slot(flushed));
  confirmed_ = flushed;
  return {};
}

}  // namespace bitacora::wal
