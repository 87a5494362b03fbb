#include "apply/step_queue.h"

#include <algorithm>

#include "base/check.h"

namespace bitacora::apply {
namespace {

bool locks_the_table(const SchemaStep& step) { return step.type != "INDEX"; }

}  // namespace

StepQueue::StepQueue(const std::vector<SchemaStep>& steps, const TableSizes& sizes) {
  for (const auto& step : steps) (step.builds ? builds_ : others_).push_back(&step);
  const auto size = [&](const SchemaStep* step) {
    const auto found = sizes.find(step->table);
    return found == sizes.end() ? 0 : found->second;
  };
  std::stable_sort(builds_.begin(), builds_.end(),
                   [&](const auto* a, const auto* b) { return size(a) > size(b); });
}

bool StepQueue::may_run(const SchemaStep& step) const {
  const auto found = running_.find(step.table);
  if (step.table.empty() || found == running_.end()) return true;
  return !found->second.alone && !locks_the_table(step);
}

const SchemaStep* StepQueue::take(std::deque<const SchemaStep*>& from,
                                  std::deque<const SchemaStep*>::iterator step) {
  const SchemaStep* taken = *step;
  from.erase(step);
  ++running_steps_;
  Running& running = running_[taken->table];
  ++running.steps;
  running.alone = locks_the_table(*taken);
  return taken;
}

const SchemaStep* StepQueue::next() {
  const auto build = std::find_if(builds_.begin(), builds_.end(),
                                  [&](const auto* step) { return may_run(*step); });
  if (build != builds_.end()) return take(builds_, build);
  const bool others_turn = builds_.empty() && running_steps_ == 0 && !others_.empty();
  return others_turn ? take(others_, others_.begin()) : nullptr;
}

void StepQueue::ended(const SchemaStep& step) {
  const auto running = running_.find(step.table);
  CHECK(running != running_.end());
  if (--running->second.steps == 0) running_.erase(running);
  --running_steps_;
}

}  // namespace bitacora::apply
