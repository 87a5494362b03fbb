#include "engine/own_reader.h"

#include <utility>

#include <fmt/format.h>

#include "base/backoff.h"
#include "base/interruptible_sleep.h"
#include "base/log.h"

namespace bitacora::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::minutes kDeclinedTime{5};  // a try costs the others a restart
// The copy before may still be going away, with the slot that this one needs.
constexpr int kFailuresMax = 4;
constexpr std::chrono::milliseconds kNearPause{50};  // at the WAL's end, and not yet back

wal::CatchUpOptions at_a_receivers_pace(wal::CatchUpOptions options) {
  options.fetch.near_bytes = 1;
  options.fetch.range_bytes = 4u << 20;
  options.confirm_bytes.reset();
  options.fetch.ahead_bytes = 16u << 20;
  options.fetch.begin_below_bytes = 4u << 20;
  return options;
}

}  // namespace

OwnReader::OwnReader(transport::SubscriptionHub& hub,
                     std::shared_ptr<transport::Subscription> subscription,
                     wal::CatchUpOptions options, const MasterView& master)
    : hub_(hub),
      subscription_(std::move(subscription)),
      master_(master),
      reader_(at_a_receivers_pace(std::move(options)), *this) {}

void OwnReader::run(const std::stop_token& stop) {
  const std::stop_callback end_on_stop(stop, [this] { over_.request_stop(); });
  read(over_.get_token());
}

void OwnReader::read(std::stop_token stop) {
  Backoff backoff;
  while (!stop.stop_requested() && !wants_restart(false)) {
    const auto end = read_once(stop);
    if (done_ || stop.stop_requested()) return;
    if (reader_.mid_transaction()) return hub_.disconnect(*subscription_);
    if (end.ok() && *end == wal::CatchUpEnd::kTooLarge) {
      return decline({ErrorCode::kMaster, "the oldest open transaction began too far back"});
    }
    if (end.ok()) {
      backoff.reset();
      failures_ = 0;
      interruptible_sleep(kNearPause, stop);
      continue;
    }
    if (end.error().code == ErrorCode::kState) return hub_.disconnect(*subscription_);
    if (!end.error().heals() && ++failures_ == kFailuresMax) return decline(end.error());
    interruptible_sleep(backoff.next(), stop);
  }
}

Result<wal::CatchUpEnd> OwnReader::read_once(const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const bool binary, master_.binary_can_be_sent());
  reader_.ask_for_binary(binary);
  reading_from_ = hub_.position(*subscription_);
  return reader_.run(reading_from_, stop);
}

void OwnReader::decline(const Error& reason) {
  master_.on_declined(reason);
  hub_.decline(*subscription_, Clock::now() + kDeclinedTime);
}

bool OwnReader::offer(const proto::SharedBatch& batch, Clock::time_point deadline) {
  if (done_) return true;  // the common reader brings it
  const auto put = hub_.put(*subscription_, batch, deadline);
  if (put == Pushed::kClosed) over_.request_stop();
  return put != Pushed::kTimedOut;
}

Result<void> OwnReader::on_connected(const wal::SystemIdentity& system) {
  return master_.check_identity(system);
}

// The copy begins where the slot was, or before it.
Result<void> OwnReader::on_started() {
  ASSIGN_OR_RETURN(const auto confirmed, master_.confirmed());
  if (reading_from_ >= confirmed) return {};
  return Error{
      ErrorCode::kState,
      fmt::format("the slot is confirmed up to {}, receiver {} needs changes from {}",
                  to_string(confirmed), subscription_->receiver(), to_string(reading_from_)),
      "somebody else advanced the slot: make the tables equal again and begin anew"};
}

bool OwnReader::wants_restart(bool /*streaming*/) {
  if (!done_) done_ = hub_.come_back(*subscription_) != transport::OwnRead::kGoesOn;
  return done_;
}

}  // namespace bitacora::engine
