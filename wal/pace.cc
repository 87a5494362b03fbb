#include "wal/pace.h"

namespace bitacora::wal {

void Pace::on_begin(std::int64_t commit_time_usec, std::int64_t sent_usec) {
  late_ = std::chrono::microseconds(sent_usec - commit_time_usec) >= options_.late;
}

bool Pace::due(const BatchBuilder& builder, Clock::time_point now) {
  const bool nothing = builder.empty() || builder.in_transaction();
  const bool only_a_position = builder.holds_only_a_position();
  if (nothing || only_a_position != only_a_position_) holding_since_ = {};
  only_a_position_ = only_a_position;
  if (nothing) return false;
  if (!holding()) holding_since_ = now;
  // Positions come after every commit and would cross the path of the next one.
  const bool enough = !only_a_position && (!late_ || builder.bytes() >= options_.company_bytes);
  if (!enough && now - holding_since_ < patience()) return false;
  holding_since_ = {};
  return true;
}

}  // namespace bitacora::wal
