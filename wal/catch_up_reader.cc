#include "wal/catch_up_reader.h"

#include <memory>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"

namespace bitacora::wal {
namespace {

constexpr std::chrono::milliseconds kLookInterval{50};  // at `stop`, while nothing comes

}  // namespace

CatchUpReader::CatchUpReader(CatchUpOptions options, BatchSink& sink)
    : options_(std::move(options)),
      connector_(options_.conninfo, options_.application_name),
      sink_(sink) {}

Result<CatchUpEnd> CatchUpReader::run(MasterLsn start_lsn, std::stop_token stop) {
  builder_ = BatchBuilder(std::make_shared<RelationCache>(), options_.traffic, options_.origins);
  delivered_open_transaction_ = false;
  asked_at_ = start_lsn;
  ASSIGN_OR_RETURN(auto connection, connector_.connect());
  ASSIGN_OR_RETURN(const auto system, identify_system(connection.get()));
  RETURN_IF_ERROR(sink_.on_connected(system));
  ASSIGN_OR_RETURN(auto copy, SlotCopy::make(std::move(connection), options_.slot));
  RETURN_IF_ERROR(sink_.on_started());
  spdlog::info("event=catching_up slot={} from={} through={}", options_.slot, to_string(start_lsn),
               connector_.through());
  ASSIGN_OR_RETURN(timeline_, TimelineWatch::begin(connector_, system));
  decoder_ = PgOutputDecoder(PgOutputOptions{proto_version_for(copy.server_version()), false});
  const auto end = [&] {
    BacklogFetcher fetcher(copy, options_.fetch,
                           plugin_options(copy.server_version(), options_.publication,
                                          options_.binary, options_.origins),
                           start_lsn);
    return read(fetcher, stop);
  }();
  const bool same_timeline = std::exchange(timeline_, {}).holds();
  if (end.ok()) return end;
  Error error = end.error();
  // Some that heal elsewhere, a full disk say, must not be waited for here.
  error.recovery = copy.connected() && same_timeline ? Recovery::kStop : Recovery::kRetry;
  return error;
}

Result<CatchUpEnd> CatchUpReader::read(BacklogFetcher& fetcher, const std::stop_token& stop) {
  while (true) {
    const bool unwanted = !builder_.in_transaction() && sink_.wants_restart(false);
    if (unwanted || stop.stop_requested()) break;
    ASSIGN_OR_RETURN(const auto fetched, fetcher.next(Clock::now() + kLookInterval));
    if (!fetched) continue;
    if (const auto* messages = std::get_if<FetchedMessages>(&*fetched)) {
      RETURN_IF_ERROR(take_in(*messages, stop));
    } else if (const auto* position = std::get_if<CopyPosition>(&*fetched)) {
      RETURN_IF_ERROR(take_in(*position, stop));
      confirm(fetcher, position->read);
    } else {
      return std::get<CatchUpEnd>(*fetched);
    }
  }
  if (!builder_.in_transaction()) RETURN_IF_ERROR(deliver(stop));
  return CatchUpEnd::kRestart;
}

Result<void> CatchUpReader::take_in(const FetchedMessages& messages, const std::stop_token& stop) {
  for (ByteReader reader(messages.bytes); !reader.rest().empty();) {
    const auto message = reader.take(reader.integer<std::uint32_t>());
    if (builder_.passes_over(message)) continue;
    ASSIGN_OR_RETURN(const auto* decoded, decoder_.decode(message));
    RETURN_IF_ERROR(builder_.append(*decoded));
    const auto enough = builder_.in_transaction() ? options_.batch_bytes_max : options_.batch_bytes;
    while (builder_.bytes() >= enough && !stop.stop_requested()) RETURN_IF_ERROR(deliver(stop));
  }
  return {};
}

Result<void> CatchUpReader::take_in(const CopyPosition& position, const std::stop_token& stop) {
  sink_.on_master_position(position.wal_end, position.master_clock_usec);
  builder_.append_idle_position(position.read);
  return deliver(stop);
}

// The sink takes what it answers for told, so it is asked only when the master will be.
void CatchUpReader::confirm(BacklogFetcher& fetcher, MasterLsn read) {
  if (!options_.confirm_bytes || read.value < asked_at_.value + *options_.confirm_bytes) return;
  asked_at_ = read;
  fetcher.allow(sink_.status().flushed);
}

Result<void> CatchUpReader::deliver(const std::stop_token& stop) {
  if (builder_.empty()) return {};
  RETURN_IF_ERROR(timeline_.check());
  auto batch = std::make_shared<proto::EncodedBatch>(builder_.take());
  delivered_open_transaction_ = delivered_open_transaction_ || batch->transaction_open;
  const proto::SharedBatch shared = std::move(batch);
  while (!stop.stop_requested()) {
    if (!sink_.offer(shared, Clock::now() + kLookInterval)) continue;
    delivered_open_transaction_ = shared->transaction_open;
    break;
  }
  return {};
}

}  // namespace bitacora::wal
