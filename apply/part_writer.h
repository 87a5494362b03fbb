// Writes parts of copied tables, each in one standby transaction with its row in
// bitacora.copied_parts.
#pragma once

#include <string>
#include <string_view>

#include "apply/copied_tables.h"
#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

struct CopyTarget {
  std::string schema;  // of the master's table, for the part's row
  std::string name;
  std::string target;                // the standby's table, as SQL
  std::vector<std::string> columns;  // quoted; none: rows without columns
  bool binary = false;
  bool whole = false;  // the part is the whole table: it may be emptied, and frozen where possible
};

// One thread owns it and its session. After an error the transaction has been rolled back and the
// next part may begin, unless the connection is gone.
class PartWriter {
 public:
  PartWriter(StandbySession& session, std::string subscription);

  Result<void> begin(const CopyTarget& target, const CopiedPart& part);
  // A piece of COPY's bytes, cut anywhere.
  Result<void> write(std::string_view piece);
  // kStandby when the standby took another number of rows than `rows`; the part is committed
  // otherwise (asynchronously: see make_progress_durable()).
  Result<void> finish(std::uint64_t rows, std::uint64_t bytes);
  // The part is given up.
  void abandon();

 private:
  StandbySession& session_;
  const std::string subscription_;
  CopyTarget target_;
  CopiedPart part_;
};

}  // namespace bitacora::apply
