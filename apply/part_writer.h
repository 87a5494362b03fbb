// Writes parts of copied tables, each in one standby transaction with its row in
// bitacora.copied_parts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apply/constant_columns.h"
#include "apply/copied_tables.h"
#include "apply/empty_table.h"
#include "apply/standby_session.h"
#include "base/error.h"

namespace bitacora::apply {

struct CopyTarget {
  std::string schema;  // of the master's table, for the part's row
  std::string name;
  TargetRows rows;                     // on the standby
  bool mingled = false;                // rows of others are among them: nothing is emptied
  std::vector<std::string> columns;    // quoted, the constants last; none: rows without columns
  std::vector<std::string> constants;  // the last columns' values, as text
  bool binary = false;
  bool whole = false;  // the part is the whole table: it is emptied, and frozen where that pays
  bool small = false;  // of a whole table: freezing it does not pay
};

// One thread owns it and its session. After an error the transaction has been rolled back and the
// next part may begin, unless the connection is gone.
class PartWriter {
 public:
  PartWriter(StandbySession& session, std::string subscription);

  Result<void> begin(const CopyTarget& target, const CopiedPart& part);
  // A piece of COPY's bytes, cut anywhere; text, if there are constants. What the standby has
  // against a row is said by finish(): while bytes are sent, libpq tells of a lost connection only.
  Result<void> write(std::string_view piece);
  // kStandby when the standby took another number of rows than `rows`, or refuses one; the part is
  // committed otherwise (asynchronously: see make_progress_durable()). kInDoubt: the connection was
  // lost in the COMMIT, load_copied_parts() knows.
  Result<void> finish(std::uint64_t rows, std::uint64_t bytes);
  // The part is given up.
  void abandon();

 private:
  Result<void> open();
  Result<std::uint64_t> copied_rows();
  Result<std::uint64_t> insert_bare_rows(std::uint64_t rows);
  Result<void> note_part(std::uint64_t rows, std::uint64_t bytes);
  // Rolled back on the way out.
  Result<void> failed(Error error);
  Error cannot_copy(const PGresult* result) const;
  bool bare_rows() const { return target_.columns.empty(); }

  StandbySession& session_;
  const std::string subscription_;
  CopyTarget target_;
  ConstantColumns constants_;
  CopiedPart part_;
  std::uint64_t bytes_ = 0;  // written of this part
};

}  // namespace bitacora::apply
