// Which step of the schema is to be done next. Pure; the runner's mutex guards it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "apply/schema_steps.h"

namespace bitacora::apply {

// Bytes of the tables that the steps are of, by the steps' spelling.
using TableSizes = std::map<std::string, std::uint64_t>;

class StepQueue {
 public:
  // The steps must outlive it.
  StepQueue(const std::vector<SchemaStep>& steps, const TableSizes& sizes);

  // First those that build, the largest table's first, then the others one after the other. Null:
  // none may run beside those that do; ask again when one has ended.
  const SchemaStep* next();
  void ended(const SchemaStep& step);
  bool empty() const { return builds_.empty() && others_.empty(); }

 private:
  // Indexes of one table are built at the same time; a constraint locks the table for itself.
  struct Running {
    int steps = 0;
    bool alone = false;
  };
  bool may_run(const SchemaStep& step) const;
  const SchemaStep* take(std::deque<const SchemaStep*>& from,
                         std::deque<const SchemaStep*>::iterator step);

  std::deque<const SchemaStep*> builds_;
  std::deque<const SchemaStep*> others_;
  std::map<std::string, Running> running_;  // by table
  int running_steps_ = 0;
};

}  // namespace bitacora::apply
