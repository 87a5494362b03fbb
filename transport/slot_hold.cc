#include "transport/slot_hold.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"

namespace bitacora::transport {

Error not_registered(const std::string& receiver, const std::vector<std::string>& known) {
  return {ErrorCode::kState, fmt::format("no receiver {} is registered", receiver),
          known.empty() ? std::string("none is: nobody holds the slot")
                        : fmt::format("registered are: {}", fmt::join(known, ", "))};
}

std::optional<ReceiverPositions> SlotHold::report() {
  const std::lock_guard lock(mutex_);
  const auto slowest = hub_.slowest();
  if (!slowest) return std::nullopt;
  CHECK(slowest->flushed >= told_ || !slowest->flushed.valid());
  told_ = slowest->flushed;
  return slowest;
}

SlotHold::Joined SlotHold::join_new(const std::string& receiver, const std::string& instance,
                                    MasterLsn confirmed) {
  const std::lock_guard lock(mutex_);
  return hub_.join(receiver, instance, std::max(confirmed, told_));
}

SlotHold::Joined SlotHold::join_at(const std::string& receiver, const std::string& instance,
                                   MasterLsn resume, MasterLsn confirmed) {
  const std::lock_guard lock(mutex_);
  const auto kept_from = std::max(confirmed, told_);
  if (resume < kept_from) {
    return Error{ErrorCode::kState,
                 fmt::format("receiver {} needs changes from {}, the slot has them from {} on: "
                             "the gap {} to {} is lost",
                             receiver, to_string(resume), to_string(kept_from), to_string(resume),
                             to_string(kept_from)),
                 "begin this receiver anew: bitacora receiver --begin-anew with its other options, "
                 "then start it with --truncate, which empties its tables and copies them again"};
  }
  hub_.restore_receiver(receiver, resume);  // it has something: never to be withdrawn
  return hub_.join(receiver, instance, resume);
}

// The caller holds mutex_, so nobody of them can connect meanwhile.
Result<void> SlotHold::end_hold(const std::vector<ReceiverState>& whose, const Note& note) {
  RETURN_IF_ERROR(note(whose));
  for (const auto& each : whose) hub_.forget(each.receiver);
  return {};
}

Result<std::vector<ReceiverState>> SlotHold::drop_absent(
    MasterLsn keep_from, std::chrono::steady_clock::duration absence, const Note& note) {
  const std::lock_guard lock(mutex_);
  const auto away_since = std::chrono::steady_clock::now() - absence;
  auto dropped = hub_.receivers();
  std::erase_if(dropped, [&](const ReceiverState& each) {
    return each.connected || each.absent_since > away_since || each.positions.flushed >= keep_from;
  });
  if (!dropped.empty()) RETURN_IF_ERROR(end_hold(dropped, note));
  return dropped;
}

Result<void> SlotHold::forget(const std::string& receiver, const Note& note) {
  const std::lock_guard lock(mutex_);
  const auto known = hub_.receivers();
  const auto found = std::find_if(known.begin(), known.end(), [&](const ReceiverState& each) {
    return each.receiver == receiver;
  });
  if (found == known.end()) {
    std::vector<std::string> names;
    std::transform(known.begin(), known.end(), std::back_inserter(names),
                   [](const ReceiverState& each) { return each.receiver; });
    return not_registered(receiver, names);
  }
  if (found->connected) {
    return Error{ErrorCode::kState, fmt::format("receiver {} is connected", receiver),
                 "stop it first: it would register again at once"};
  }
  return end_hold({*found}, note);
}

bool SlotHold::release(MasterLsn position) {
  const std::lock_guard lock(mutex_);
  if (hub_.slowest()) return false;
  told_ = std::max(told_, position);
  return true;
}

}  // namespace bitacora::transport
