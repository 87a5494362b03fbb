#include "transport/slot_hold.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"

namespace bitacora::transport {

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
                 "make the tables equal again and begin this receiver anew, with an empty "
                 "--data-dir and its row of bitacora.progress deleted"};
  }
  hub_.restore_receiver(receiver, resume);  // it has something: never to be withdrawn
  return hub_.join(receiver, instance, resume);
}

}  // namespace bitacora::transport
