#include "apply/durability.h"

#include "base/check.h"

namespace bitacora::apply {

void Durability::on_commit(MasterLsn applied, StandbyLsn inserted) {
  CHECK(applied >= durable_);
  if (applied == (commits_.empty() ? durable_ : commits_.back().applied)) return;  // noted before
  commits_.push_back({applied, inserted});
}

bool Durability::on_flush(StandbyLsn flushed) {
  const MasterLsn before = durable_;
  while (!commits_.empty() && commits_.front().inserted <= flushed) {
    durable_ = commits_.front().applied;
    commits_.pop_front();
  }
  return durable_ > before;
}

}  // namespace bitacora::apply
