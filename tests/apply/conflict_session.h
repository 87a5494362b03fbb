// A standby with conflict policies: what a path refuses is tried by the next one, as the receiver
// does.
#pragma once

#include <string>
#include <vector>

#include "tests/apply/apply_fixture.h"

namespace bitacora::apply {

enum class Way { kOneTrip, kGrouped, kFast };
inline constexpr Way kWays[] = {Way::kOneTrip, Way::kGrouped, Way::kFast};
const char* name_of(Way way);

class ConflictTest : public ApplyTest {
 protected:
  void SetUp() override { make_conflict_table(); }

  // PATTERN=POLICY
  static ConflictPolicies policies(const std::vector<std::string>& rules);
  static ApplierOptions options(Way way, const std::vector<std::string>& rules);
  void begin_anew() const;

  // Sessions until one has taken the batch, or fails for good.
  Result<void> take(const Applier::Batch& batch, ApplierOptions options);
  std::uint64_t conflicts() const { return conflicts_; }  // counted by take(), so far
  int sessions() const { return sessions_; }              // of the last take()

  // One line per row: type|operation|policy|key|local_row|remote_row.
  std::string logged() const;
  // The rows of a table in their order, one a line.
  std::string rows(const std::string& table) const;
  // `empty` on both sides, and the standby has seen nothing of this master. Without DDL: that waits
  // for the disk.
  void begin_case(PlayedMaster& played, const std::string& empty) const;

 private:
  void make_conflict_table() const;

  std::uint64_t conflicts_ = 0;
  int sessions_ = 0;
};

}  // namespace bitacora::apply
